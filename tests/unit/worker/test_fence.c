/* test_fence.c: earlier connections of the same consumer are closed, and no others. */
#include "tests/unit/common/redis/redis-world.h"

#include "worker/fence.h"

static const struct config config = {.stream = "s", .group = "g", .consumer = "c"};
static const struct config other_consumer = {.stream = "s", .group = "g", .consumer = "d"};

/* A connection that is fenced, of a process of its own. */
struct process {
    struct world world;
    struct fence fence;
    unsigned done;
    bool ok;
};

static void on_fenced(bool ok, void *arg)
{
    struct process *p = arg;
    p->done++;
    p->ok = ok;
}

/* Connects the process to the server of `w`. */
static void connect_process(struct process *p, const struct world *w)
{
    p->world.base = w->base;
    p->world.config = w->config;
    open_link(&p->world, w->server.url);
    run_until(&p->world, &p->world.ready, 1);
}

static void fence_process(struct process *p, const struct config *c)
{
    assert_true(fence_send(&p->fence, p->world.link, c, on_fenced, p));
    assert_int_equal(p->done, 0);
    run_until(&p->world, &p->done, 1);
    while (redis_link_pending(p->world.link) > 0) /* CLIENT KILL, until its timeout */
        event_base_loop(p->world.base, EVLOOP_ONCE);
}

static void end_process(struct process *p)
{
    redis_link_free(p->world.link);
    redis_url_free(&p->world.url);
}

static void test_earlier_connection_is_closed(void **state)
{
    struct process first = {0}, second = {0};
    connect_process(&first, *state);
    fence_process(&first, &config);
    assert_true(first.ok);
    connect_process(&second, *state);
    fence_process(&second, &config);
    assert_true(second.ok);
    run_until(&first.world, &first.world.down, 1);
    expect_reply(&second.world, "PING", "status PONG");
    assert_int_equal(second.world.down, 0);
    end_process(&first);
    end_process(&second);
}

static void test_other_consumer_is_left_alone(void **state)
{
    struct process first = {0}, second = {0};
    connect_process(&first, *state);
    fence_process(&first, &config);
    connect_process(&second, *state);
    fence_process(&second, &other_consumer);
    assert_true(second.ok);
    expect_reply(&first.world, "PING", "status PONG");
    assert_int_equal(first.world.down, 0);
    end_process(&first);
    end_process(&second);
}

/* Everything but CLIENT is allowed: it goes on, and closes nothing. */
static void test_account_that_may_not_goes_on(void **state)
{
    struct process first = {0}, second = {0};
    connect_process(&first, *state);
    fence_process(&first, &config);
    expect_reply(&first.world, "ACL SETUSER default -client", "status OK");
    connect_process(&second, *state);
    fence_process(&second, &config);
    assert_true(second.ok);
    expect_reply(&first.world, "PING", "status PONG");
    end_process(&first);
    end_process(&second);
}

static void test_broken_connection_is_told_once(void **state)
{
    struct process p = {0};
    connect_process(&p, *state);
    assert_true(fence_send(&p.fence, p.world.link, &config, on_fenced, &p));
    redis_link_reset(p.world.link, "the test wants it");
    run_until(&p.world, &p.world.down, 1);
    assert_int_equal(p.done, 1);
    assert_false(p.ok);
    assert_false(fence_send(&p.fence, p.world.link, &config, on_fenced, &p));
    end_process(&p);
    assert_int_equal(p.done, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_earlier_connection_is_closed),
        WITH_SERVER(test_other_consumer_is_left_alone),
        WITH_SERVER(test_account_that_may_not_goes_on),
        WITH_SERVER(test_broken_connection_is_told_once),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/fence", tests, NULL, NULL);
}
