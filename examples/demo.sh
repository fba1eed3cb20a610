#!/bin/sh
# Shows the whole pipeline at work: sh examples/demo.sh BUILD, or make demo.
#
# Everything that it starts is private, lies in one temporary directory, and is gone at the end. Exits
# with 0 only when app.log holds exactly the records that it must hold.
set -u

build=${1:-build}
tries=500 # of 0.02 s each: how long a condition may take to come true

# ---- words and colours ----

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
else
    bold='' dim='' red='' plain=''
fi

heading() { printf '\n%s%s%s\n\n' "$bold" "$1" "$plain"; }
say() { printf '  %s\n' "$*"; }
fail() {
    printf '\n%sdemo: %s%s\n' "$red" "$1" "$plain" >&2
    exit 1
}

# ---- processes ----

dir='' pids=''

# Of a process that has ended and was not waited for, only the state is left.
alive() {
    case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in
    '' | [ZX]*) return 1 ;;
    esac
}

# until_true COMMAND...: status 1 when it does not come true in time.
until_true() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ "$n" -lt "$tries" ] || return 1
        sleep 0.02
    done
}

gone() { ! alive "$1"; }

# stop PID: asks it to end, and makes it end. Sets $status.
stop() {
    kill -CONT "$1" 2>/dev/null
    kill -TERM "$1" 2>/dev/null
    until_true gone "$1" || kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    status=$?
}

clean_up() {
    trap '' INT TERM HUP
    # $!: the signal may have come before start() noted it.
    for pid in $pids ${!:-}; do
        ! alive "$pid" || kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    [ -z "$dir" ] || rm -rf "$dir"
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: its output goes to NAME.out and NAME.err, its process id to $pid.
start() {
    name=$1
    shift
    : >"$dir/$name.out"
    : >"$dir/$name.err"
    "$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null &
    pid=$!
    pids="$pids $pid"
}

# The port in the line that a program prints when it listens.
port_of() {
    sed -n -e 's/.*listening on .*:\([0-9][0-9]*\).*/\1/p' -e 's|.*metrics at http://.*:\([0-9][0-9]*\)/.*|\1|p' \
        "$dir/$1.out" "$dir/$1.err" | head -n 1
}
ready_or_gone() { [ -n "$(port_of "$1")" ] || ! alive "$pid"; }

# serve NAME PORT: runs `run_NAME PORT`, or `run_NAME 0` when the port is taken. Sets $pid and $port.
serve() {
    "run_$1" "$2"
    until_true ready_or_gone "$1" || fail "$1 was not ready in time"
    port=$(port_of "$1")
    if [ -z "$port" ] && [ "$2" -ne 0 ] && grep -q 'in use' "$dir/$1.err"; then
        say "port $2 is taken: $1 takes a free one"
        echo "{\"level\":\"fatal\",\"message\":\"cannot listen on 127.0.0.1:$2: Address already in use\",\"service\":\"$1\"}" >>"$dir/taken"
        serve "$1" 0 "${3:-}"
        return
    fi
    [ -n "$port" ] || fail "$1 did not start: $(cat "$dir/$1.err")"
    say "$(printf '%-13s 127.0.0.1:%s%s' "$1" "$port" "${3:+   $3}")"
}

run_logd() { start logd "$build/logd" --listen "127.0.0.1:$1" --redis "unix://$dir/redis.sock" --echo; }
run_logworker() {
    start logworker "$build/logworker" --redis "unix://$dir/redis.sock" --output "$dir/app.log" \
        --listen "127.0.0.1:$1"
}
run_auth() { start auth "$build/examples/auth" --port "$1"; }
run_payment() { start payment "$build/examples/payment" --port "$1"; }
run_order() { start order "$build/examples/order" --port "$1"; }

redis_answers() { [ "$(redis-cli -s "$dir/redis.sock" ping 2>/dev/null)" = PONG ]; }

# ---- requests ----

# ask PORT STATUS METHOD PATH [BODY]: prints request and answer; the status must be the expected one.
ask() {
    say "$3 $4${5:+ $5}"
    got=$(curl -q -sS --noproxy '*' --max-time 5 -o "$dir/answer" -w '%{http_code}' -X "$3" \
        -H 'Content-Type: application/json' ${5:+--data-binary "$5"} "http://127.0.0.1:$1$4") ||
        fail "no answer from port $1"
    say "  $dim$got$plain $(cat "$dir/answer")"
    [ "$got" = "$2" ] || fail "expected status $2"
}

# ---- metrics ----

# metric PORT NAME: the sum of its samples.
metric() {
    curl -q -sS --noproxy '*' --max-time 5 "http://127.0.0.1:$1/metrics" |
        awk -v name="$2" '{ sub(/\{.*\}/, "", $1) } $1 == name { n += $2 } END { print n + 0 }'
}

# ---- app.log ----

# What app.log must hold, without time stamps, in the order in which each service logs it. A service
# that found its port taken has said so, and was then started again.
expected() {
    for service in auth payment order; do
        cat "$dir/taken" - <<EOF | grep "\"service\":\"$service\"}\$"
{"level":"warn","message":"wrong password for bob, failure 1 of 3","service":"auth"}
{"level":"warn","message":"wrong password for bob, failure 2 of 3","service":"auth"}
{"level":"warn","message":"wrong password for bob, failure 3 of 3","service":"auth"}
{"level":"error","message":"bob is locked for 60 s after 3 wrong passwords","service":"auth"}
{"level":"warn","message":"login with an unknown user name","service":"auth"}
{"level":"fatal","message":"cannot listen on 127.0.0.1:$auth_port: Address already in use","service":"auth"}
{"level":"warn","message":"card ************0002 refused for 19.99 EUR","service":"payment"}
{"level":"error","message":"the card network does not answer for card ************0119","service":"payment"}
{"level":"warn","message":"payment with a text that is no card number","service":"payment"}
{"level":"warn","message":"only 2 × teapot left in stock","service":"order"}
{"level":"error","message":"order lost: 3 × teapot wanted, 2 in stock","service":"order"}
{"level":"warn","message":"no such path: /nowhere","service":"order"}
{"level":"error","message":"order lost: 4 × teapot wanted, 2 in stock","service":"order"}
EOF
    done
}

# The same of app.log. A line with a bad time stamp stays as it is, and so differs.
found() {
    sed 's/,"timestamp":"[0-9-]\{10\}T[0-9:]\{8\}\.[0-9]\{3\}Z"}$/}/' "$dir/app.log" >"$dir/lines"
    for service in auth payment order; do
        grep "\"service\":\"$service\"}\$" "$dir/lines"
    done
}

# One short line a record, with what becomes of it. logd echoes a record that was sent twice twice.
show_echo() {
    sed 's/^{"level":"\([a-z]*\)","message":"\(.*\)","service":"\([a-z]*\)","timestamp":"[^T]*T\([^Z]*\)Z"}$/\1|\3|\4|\2/' \
        "$dir/logd.out" | awk -F '|' -v dim="$dim" -v plain="$plain" '
        NF < 4 { next }
        seen[$0]++ { fate = "sent again" }
        seen[$0] == 1 { fate = $1 ~ /^(warn|error|fatal)$/ ? "app.log" : "filtered" }
        { printf "  %s%-10s  %s  %-5s  %-7s  %s%s\n", fate == "app.log" ? "" : dim, fate, $3, $1, $2, $4, plain }'
}

complete() { [ "$(cat "$dir/app.log" 2>/dev/null | wc -l)" -ge "$(wc -l <"$dir/expected")" ]; }
drained() { [ "$(redis-cli -s "$dir/redis.sock" xlen logs-stream)" = 0 ]; }

# ---- the run ----

for tool in redis-server redis-cli curl; do
    command -v "$tool" >/dev/null || fail "$tool is missing: run make deps"
done
for program in logd logworker logsend examples/auth examples/payment examples/order; do
    [ -x "$build/$program" ] || fail "$build/$program is missing: run make"
done

read -r begin _ </proc/uptime
# A unix socket's path has at most 107 bytes, so the directory is not made under a long TMPDIR.
dir=$(mktemp -d /tmp/logdemo.XXXXXX) || fail 'no temporary directory'
: >"$dir/taken"
# Settings of the user's own are not meant for this.
for variable in $(env | sed -n 's/^\(LOGD_[A-Z_]*\|LOGWORKER_[A-Z_]*\|LOGCLIENT_[A-Z_]*\)=.*/\1/p'); do
    unset "$variable"
done

heading 'Starting. Everything is private and lies in one temporary directory.'
start redis redis-server --port 0 --unixsocket "$dir/redis.sock" --dir "$dir" --save '' \
    --appendonly yes --appendfsync always --maxmemory-policy noeviction
until_true redis_answers || fail "redis-server did not start: $(tail -n 3 "$dir/redis.out")"
say 'redis-server  unix socket; appendonly yes, appendfsync always'
serve logd 4000 'echoes what it accepts'
logd_pid=$pid logd_port=$port
serve logworker 0 'keeps warn and above, writes app.log'
worker_pid=$pid worker_port=$port
export LOGCLIENT_URL="http://127.0.0.1:$logd_port" LOGCLIENT_RING_DIR="$dir/rings"
serve auth 5000
auth_pid=$pid auth_port=$port
serve payment 5001
payment_pid=$pid payment_port=$port
serve order 5002
order_pid=$pid order_port=$port

heading 'Requests and answers'
ask "$auth_port" 200 POST /login '{"user":"alice","password":"correct horse"}'
for guess in hunter2 letmein qwerty; do
    ask "$auth_port" 401 POST /login '{"user":"bob","password":"'$guess'"}'
done
ask "$auth_port" 401 POST /login '{"user":"mallory","password":"hunter2"}'
ask "$payment_port" 201 POST /pay '{"card":"4242424242424242","amount":1999,"currency":"EUR"}'
ask "$payment_port" 402 POST /pay '{"card":"4000000000000002","amount":1999,"currency":"EUR"}'
ask "$payment_port" 502 POST /pay '{"card":"4000000000000119","amount":500,"currency":"EUR"}'
ask "$payment_port" 400 POST /pay '{"card":"4242424242424241","amount":500,"currency":"EUR"}'
ask "$order_port" 201 POST /orders '{"customer":"alice","item":"teapot","quantity":3}'
ask "$order_port" 409 POST /orders '{"customer":"alice","item":"teapot","quantity":3}'
ask "$order_port" 400 POST /orders '{"customer":"alice",'
ask "$order_port" 405 GET /orders
ask "$order_port" 404 POST /nowhere '{}'

heading 'A service that cannot start says why before it ends'
say "auth --port $auth_port"
"$build/examples/auth" --port "$auth_port" >"$dir/auth2.out" 2>&1
status=$?
say "  ${dim}exit status $status$plain  $(cat "$dir/auth2.out")"
[ "$status" -eq 69 ] || fail 'expected exit status 69'

heading 'A service is killed while logd does not answer'
kill -STOP "$logd_pid" || fail 'logd is gone'
say 'logd is stopped (SIGSTOP); order answers all the same:'
ask "$order_port" 409 POST /orders '{"customer":"bob","item":"teapot","quantity":4}'
kill -KILL "$order_pid" || fail 'order is gone'
wait "$order_pid" 2>/dev/null
say 'order is killed (SIGKILL); its last records wait in a ring file:'
"$build/logsend" --inspect "$dir/rings" --print | sed "s/^/    /"
kill -CONT "$logd_pid" || fail 'logd is gone'
say 'logd goes on, and order starts again:'
serve order "$order_port"
order_pid=$pid

expected >"$dir/expected"
until_true complete || say 'app.log is not complete in time'
for pid in $auth_pid $payment_pid $order_pid; do
    stop "$pid"
    [ "$status" -eq 0 ] || fail "a service ended with status $status on SIGTERM"
done
until_true drained || say 'the stream is not empty in time'

heading 'What logd has echoed, and what logworker does with it'
show_echo

heading 'app.log'
sed 's/^/  /' "$dir/app.log"

heading 'Conservation, from /metrics of logd and logworker'
accepted=$(metric "$logd_port" logd_records_accepted_total)
duplicate=$(metric "$logd_port" logd_records_duplicate_total)
written=$(metric "$worker_port" logworker_records_written_total)
filtered=$(metric "$worker_port" logworker_records_filtered_total)
dead=$(metric "$worker_port" logworker_records_dead_total)
queued=$(redis-cli -s "$dir/redis.sock" xlen logs-stream)
say "accepted $accepted = written $written + filtered $filtered + dead-lettered $dead + queued $queued"
say "sent again by the next process, and stored once: $duplicate"
[ "$accepted" -gt 0 ] && [ "$accepted" -eq $((written + filtered + dead + queued)) ] ||
    fail 'the counters do not add up'

found >"$dir/found"
if ! diff "$dir/expected" "$dir/found" >"$dir/diff"; then
    sed 's/^</  missing: /; s/^>/  not expected: /; /^[0-9-]/d' "$dir/diff" >&2
    fail 'app.log does not hold exactly what was expected'
fi
for secret in 'correct horse' hunter2 letmein qwerty 4242424242424242 4000000000000002 4000000000000119; do
    ! grep -qF "$secret" "$dir/app.log" "$dir/logd.out" || fail "the log holds a secret: $secret"
done
for pid in $worker_pid $logd_pid; do
    stop "$pid"
    [ "$status" -eq 0 ] || fail "a daemon ended with status $status on SIGTERM"
done

read -r end _ </proc/uptime
heading "app.log holds the $(wc -l <"$dir/expected") expected records, each once and in order, and no password or card number."
say "This took $(awk "BEGIN { printf \"%.1f\", $end - $begin }") s. Next, in README.md: \"Linking it into a C service\", \"Running logd and logworker\"."
