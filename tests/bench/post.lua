-- One small record a request, for wrk.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"service":"bench","level":"error","message":"card refused: insufficient funds","timestamp":"2026-01-01T00:00:00.000Z"}'
