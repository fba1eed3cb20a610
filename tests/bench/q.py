import sections,json,sys,time
q=sections.Quick
out={}
for n in ['call','post','latency','growth-backlog','memory','growth-bytes','growth-producers']:
    t=time.time(); out[n]=sections.SECTIONS[n](q); print(n, round(time.time()-t,1),'s', file=sys.stderr)
    json.dump(out,open('/tmp/b-bench-q.json','w'),indent=1)
