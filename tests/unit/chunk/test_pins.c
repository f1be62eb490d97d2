/* Pins: what they hold, over restarts and a lost index of the rest. */
#include "fixture.h"

static struct virtual v;
static struct host_env e;

static int setup(void **state)
{
    (void)state;
    virtual_init(&v, 7);
    env_init(&e, &v, 1);
    env_open(&e);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    env_end(&e);
    timer_heap_free(&v.timers);
    return 0;
}

static struct chunk_pin pin_of(const char *name, unsigned content)
{
    struct chunk_pin pin = {.manifest = content_id(content), .asked_us = 1000 + content};
    snprintf(pin.name, sizeof pin.name, "%s", name);
    return pin;
}

static void change(chunk_call call, const struct chunk_pin *pins, size_t count)
{
    struct waiting w = waiting_for(&e, 0);
    unsigned before = chunk_pin_changes(e.chunks);
    w.req.pins = pins;
    w.req.pin_count = count;
    check_ok(wait_call(&e, call, &w));
    check(chunk_pin_changes(e.chunks) != before);
}

/* "name:reads name:reads" */
static const char *listed(void)
{
    static char text[512];
    struct chunk_pin *pins;
    size_t count;
    check_ok(chunk_pins(e.chunks, &pins, &count));
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s:%llu", i > 0 ? " " : "", pins[i].name,
                 (unsigned long long)pins[i].reads);
    }
    free(pins);
    return text;
}

static struct chunk_pin first(void)
{
    struct chunk_pin *pins, pin;
    size_t count;
    check_ok(chunk_pins(e.chunks, &pins, &count));
    check(count > 0);
    pin = pins[0];
    free(pins);
    return pin;
}

static void pins_are_listed_in_order_until_they_are_removed(void **state)
{
    (void)state;
    struct chunk_pin pins[3] = {pin_of("b", 1), pin_of("a", 2), pin_of("c", 1)};
    check_str(listed(), "");
    change(chunk_pin_add, pins, 3);
    check_str(listed(), "a:0 b:0 c:0");
    check(chunk_pin_exists(e.chunks, "b") && !chunk_pin_exists(e.chunks, "d"));
    change(chunk_pin_remove, pins, 2);
    change(chunk_pin_remove, pins, 2); /* again */
    check_str(listed(), "c:0");
    check_mem(first().manifest.bytes, content_id(1).bytes, 32);
}

static void asking_again_changes_nothing(void **state)
{
    (void)state;
    struct chunk_pin pin = pin_of("a", 1);
    change(chunk_pin_add, &pin, 1);
    chunk_pin_note(e.chunks, "a", CHUNK_PIN_READ);
    virtual_sleep(&v, 10);
    pin.asked_us = 99999;
    change(chunk_pin_add, &pin, 1);
    check_int(first().asked_us, 1001);
    check_str(listed(), "a:1");
    pin = pin_of("a", 2); /* other data: a new pin */
    change(chunk_pin_add, &pin, 1);
    check_int(first().asked_us, 1002);
    check_str(listed(), "a:0");
}

static void use_is_noted_for_pins_only(void **state)
{
    (void)state;
    struct chunk_pin pin = pin_of("a", 1);
    change(chunk_pin_add, &pin, 1);
    for (unsigned i = 0; i < 100; i++) {
        chunk_pin_note(e.chunks, "a", CHUNK_PIN_READ);
        chunk_pin_note(e.chunks, "nobody", CHUNK_PIN_READ);
        chunk_pin_note(e.chunks, "a name that is too long to be that of an image", CHUNK_PIN_READ);
        if (i % 7 == 0) {
            virtual_sleep(&v, 10);
        }
    }
    chunk_pin_note(e.chunks, "a", CHUNK_PIN_HERE);
    virtual_sleep(&v, 10);
    check_str(listed(), "a:100");
    int64_t here = first().here_us;
    check(here > 0 && first().read_us > 0);
    virtual_sleep(&v, 1000);
    chunk_pin_note(e.chunks, "a", CHUNK_PIN_HERE); /* it was before */
    virtual_sleep(&v, 10);
    check_int(first().here_us, here);
}

static void pins_survive_a_power_cut_and_a_rebuild(void **state)
{
    (void)state;
    struct chunk_pin pins[2] = {pin_of("a", 1), pin_of("b", 2)};
    change(chunk_pin_add, pins, 2);
    change(chunk_pin_remove, pins, 1);
    chunk_pin_note(e.chunks, "b", CHUNK_PIN_READ); /* under way at the end */
    env_close(&e);
    e.kv->ops = e.kv_real;
    kv_mem_crash(e.kv);
    e.kv->ops = &e.kv_ops;
    env_open(&e);
    check(strncmp(listed(), "b:", 2) == 0);
    struct kv_txn *txn;
    check_ok(kv_begin(e.kv, true, &txn));
    check_ok(kv_drop(e.kv, txn, 0)); /* so the rows are made anew from the files */
    check_ok(kv_commit(e.kv, txn));
    env_close(&e);
    env_open(&e);
    check(strncmp(listed(), "b:", 2) == 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

TEST_MAIN(CASE(pins_are_listed_in_order_until_they_are_removed), CASE(asking_again_changes_nothing),
          CASE(use_is_noted_for_pins_only), CASE(pins_survive_a_power_cut_and_a_rebuild))
