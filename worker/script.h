/* script.h: the scripts that the worker runs in Redis (doc/protocol.md, sections 3.4 to 3.6). For
 * scripts.c; tests/bench runs the commit, too.
 *
 * The first write of each is one that needs no memory: after it Redis lets the rest pass at its
 * memory limit, when only removing entries can free any. */
#ifndef WORKER_SCRIPT_H
#define WORKER_SCRIPT_H

/* What all of them need of XINFO STREAM and of the account. */
#define SCRIPT_PRELUDE                                                                             \
    "local function look()\n"                                                                      \
    "  local info = redis.call('XINFO', 'STREAM', KEYS[1], 'FULL', 'COUNT', 1)\n"                  \
    "  local map = {}\n"                                                                           \
    "  for i = 1, #info, 2 do map[info[i]] = info[i + 1] end\n"                                    \
    "  local first = map.entries[1]\n"                                                             \
    "  return map, first and first[1] or ''\n"                                                     \
    "end\n"                                                                                        \
    "local function account()\n"                                                                   \
    "  local v = redis.call('HMGET', KEYS[3], 'written', 'filtered', 'dead', 'claims')\n"          \
    "  return tonumber(v[1]) or 0, tonumber(v[2]) or 0, tonumber(v[3]) or 0, v[4] or '', v[1]\n"   \
    "end\n"

/* KEYS of all: stream, owner, account, dead letters.
 *
 * ARGV: the token, the lease, its milliseconds, the last id that the state knows, 1 when a lease of
 * the own token counts as another's, too, and how many bytes of the notes of other logs were looked
 * at for a batch in hand, which may not be committed; "none" when there is no such batch. Returns
 * "taken" and these notes, when there are others than those; or "standby" and the owner's lease; or
 * "open", first id ("" when the stream is empty), last id that was given out, length, entries-added
 * as it was, written, filtered, dead, and 1 when commits are to note their lines. When there are
 * entries to compare, the lease is a minute longer, which the next look ends. */
static const char open_script[] = SCRIPT_PRELUDE
    "local token, hand = ARGV[1], ARGV[6]\n"
    "local function after(a, b)\n"
    "  local am, as = string.match(a, '(%d+)-(%d+)')\n"
    "  local bm, bs = string.match(b, '(%d+)-(%d+)')\n"
    "  if am == bm then am, bm = as, bs end\n"
    "  return #am > #bm or (#am == #bm and am > bm)\n"
    "end\n"
    "local mine = KEYS[1] .. ':taken:' .. token\n"
    "local notes = hand ~= 'none' and redis.call('GET', mine) or ''\n"
    "if notes ~= '' and #notes ~= tonumber(hand) then return {'taken', notes} end\n"
    "local w, f, d, claims, begun = account()\n"
    "local open = {}\n"
    "for other in string.gmatch(claims, '%S+') do\n"
    "  if other ~= token then open[#open + 1] = other end\n"
    "end\n"
    "local owner = redis.call('GET', KEYS[2])\n"
    "if owner and (ARGV[5] == '1' or string.sub(owner, 1, #token) ~= token) then\n"
    "  if hand == 'none' and string.find(claims, token, 1, true) then\n"
    "    redis.call('DEL', mine)\n"
    "    redis.call('HSET', KEYS[3], 'claims', table.concat(open, ' '))\n"
    "  end\n"
    "  return {'standby', owner}\n"
    "end\n"
    "redis.call('PEXPIRE', KEYS[2], ARGV[3])\n"
    "if redis.call('EXISTS', KEYS[1]) == 0 then\n"
    "  redis.call('XGROUP', 'CREATE', KEYS[1], '-', '0', 'MKSTREAM')\n"
    "  redis.call('XGROUP', 'DESTROY', KEYS[1], '-')\n"
    "end\n"
    "local info, first = look()\n"
    "local ms = tonumber(ARGV[3])\n"
    "if first ~= '' and not after(first, ARGV[4]) then ms = ms + 60000 end\n"
    "redis.call('SET', KEYS[2], ARGV[2], 'PX', string.format('%.0f', ms))\n"
    "local before = redis.call('HGET', KEYS[3], 'token')\n"
    "if before and before ~= token and not string.find(claims, before, 1, true) then\n"
    "  open[#open + 1] = before\n"
    "end\n"
    "redis.call('DEL', mine)\n"
    "redis.call('HSET', KEYS[3], 'token', token, 'claims', table.concat(open, ' '))\n"
    "local id, added, sum = info['last-generated-id'], info['entries-added'], w + f + d\n"
    "if not begun then redis.call('HSET', KEYS[3], 'written', 0, 'filtered', 0, 'dead', 0) end\n"
    "if not begun or added - info.length < sum then added = info.length + sum end\n"
    "if after(ARGV[4], id) or added ~= info['entries-added'] then\n"
    "  redis.call('XSETID', KEYS[1], after(ARGV[4], id) and ARGV[4] or id,\n"
    "    'ENTRIESADDED', string.format('%.0f', added))\n"
    "end\n"
    "if not begun then info['entries-added'] = added end\n"
    "return {'open', first, id, info.length, info['entries-added'], w, f, d, #open > 0 and 1 or "
    "0}\n";

/* ARGV: the lease, its milliseconds, id of the batch's first entry, the id after its last one
 * ("" when that is the largest there is), the notes of its lines for other logs, how many entries
 * others have removed as far as the worker knows, records written, records filtered, then id and
 * reason of each malformed entry. Returns "lease" or "stream" when it is refused, else length,
 * entries-added, written, filtered, and dead. */
static const char commit_script[] = SCRIPT_PRELUDE
    "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lease' end\n"
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 'stream' end\n"
    "local info, first = look()\n"
    "local w, f, d, claims = account()\n"
    "local added, length = info['entries-added'], info.length\n"
    "if first ~= ARGV[3] or added - length - w - f - d ~= tonumber(ARGV[6]) then\n"
    "  return 'stream'\n"
    "end\n"
    "redis.call('PEXPIRE', KEYS[2], ARGV[2])\n"
    "local dead = (#ARGV - 8) / 2\n"
    "for i = 9, #ARGV, 2 do\n"
    "  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]\n"
    "  if entry then\n"
    "    redis.call('XADD', KEYS[4], '*', 'reason', ARGV[i + 1], 'id', ARGV[i],\n"
    "      unpack(entry[2], 1, math.min(#entry[2], 7000)))\n"
    "  end\n"
    "end\n"
    "local trim = ARGV[4] == '' and {'MAXLEN', 0} or {'MINID', ARGV[4]}\n"
    "length = length - redis.call('XTRIM', KEYS[1], unpack(trim))\n"
    "if ARGV[7] ~= '0' then w = redis.call('HINCRBY', KEYS[3], 'written', ARGV[7]) end\n"
    "if ARGV[8] ~= '0' then f = redis.call('HINCRBY', KEYS[3], 'filtered', ARGV[8]) end\n"
    "if dead > 0 then d = redis.call('HINCRBY', KEYS[3], 'dead', dead) end\n"
    "if claims ~= '' and ARGV[5] ~= '' then\n"
    "  local open = {}\n"
    "  for token in string.gmatch(claims, '%S+') do\n"
    "    local key = KEYS[1] .. ':taken:' .. token\n"
    "    if redis.call('APPEND', key, ARGV[5]) < 500000 then open[#open + 1] = token end\n"
    "    redis.call('EXPIRE', key, 604800)\n"
    "  end\n"
    "  open = table.concat(open, ' ')\n"
    "  if open ~= claims then redis.call('HSET', KEYS[3], 'claims', open) end\n"
    "end\n"
    "return {length, added, w, f, d}\n";

/* ARGV: the lease, its milliseconds, of which 0 gives it back, and 1 when no batch of the log may
 * be uncommitted then. Returns 1 when the lease is held, else 0; length, entries-added, written,
 * filtered, dead, how many groups there are (all 0 without a stream), first id ("" when there is
 * none), and how many dead letters there are. */
static const char look_script[] = SCRIPT_PRELUDE
    "local owns = 0\n"
    "if redis.call('GET', KEYS[2]) == ARGV[1] then\n"
    "  owns = 1\n"
    "  redis.call('PEXPIRE', KEYS[2], ARGV[2])\n"
    "  if ARGV[3] == '1' then redis.call('HDEL', KEYS[3], 'token') end\n"
    "end\n"
    "local info, first = {length = 0, groups = {}, ['entries-added'] = 0}, ''\n"
    "if redis.call('EXISTS', KEYS[1]) == 1 then info, first = look() end\n"
    "local w, f, d = account()\n"
    "return {owns, info.length, info['entries-added'], w, f, d, #info.groups, first,\n"
    "  redis.call('XLEN', KEYS[4])}\n";

#endif
