/* script.h: the Redis script that stores a batch. command.c calls it, and so does tests/bench. */
#ifndef LOGD_SCRIPT_H
#define LOGD_SCRIPT_H

/* KEYS: the stream, and with a producer its key. ARGV: first sequence number (0: no producer),
 * skip, seconds to live, then five arguments a record. Returns how many records were new, and the
 * gap.
 *
 * Redis looks at memory, replicas and disk errors at the first write of a script, and then lets the
 * rest pass. So the records are written all or not at all. When all were there before, nothing
 * needs memory. Redis looks at the account's rights at each command. So the SET that follows the
 * records is first tried in a form that changes nothing. */
static const char store_script[] =
    "local n = (#ARGV - 3) / 5\n"
    "local first = tonumber(ARGV[1])\n"
    "local dup, gap, last = 0, 0, nil\n"
    "if first > 0 then\n"
    "  local value = redis.call('GET', KEYS[2])\n"
    "  if value then\n"
    "    last = tonumber(value)\n"
    "    if not last then\n"
    "      return redis.error_reply('ERR the key ' .. KEYS[2] .. ' does not hold a number')\n"
    "    end\n"
    "    dup = math.min(math.max(last + 1 - first, 0), n)\n"
    "    gap = math.max(first - last - 1 - tonumber(ARGV[2]), 0)\n"
    "  end\n"
    "  if dup < n then\n"
    "    redis.call('SET', KEYS[2], 0, value and 'NX' or 'XX')\n"
    "  end\n"
    "end\n"
    "for i = 4 + dup * 5, #ARGV, 5 do\n"
    "  if ARGV[i + 4] == '' then\n"
    "    redis.call('XADD', KEYS[1], '*', 'service', ARGV[i], 'level', ARGV[i + 1],\n"
    "      'message', ARGV[i + 2], 'timestamp', ARGV[i + 3])\n"
    "  else\n"
    "    redis.call('XADD', KEYS[1], '*', 'service', ARGV[i], 'level', ARGV[i + 1],\n"
    "      'message', ARGV[i + 2], 'timestamp', ARGV[i + 3], 'fields', ARGV[i + 4])\n"
    "  end\n"
    "end\n"
    "if first > 0 then\n"
    "  if dup < n then\n"
    "    redis.call('SET', KEYS[2], string.format('%.0f', first + n - 1), 'EX', ARGV[3])\n"
    "  else\n"
    "    redis.call('EXPIRE', KEYS[2], ARGV[3])\n"
    "  end\n"
    "end\n"
    "return {n - dup, gap}\n";

#endif
