/* The settings file: accepted or refused with a sentence; what is accepted can be written value by
 * value and read again. */
#include <unistd.h>

#include "fuzz.h"
#include "tessera/base/buf.h"
#include "tessera/base/config.h"
#include "tessera/base/err.h"

static char path[64];

static void remove_file(void)
{
    (void)unlink(path);
}

/* One file a process, in memory where the system has that. */
static void write_file(const uint8_t *data, size_t size)
{
    if (path[0] == 0) {
        const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        (void)snprintf(path, sizeof path, "%s/fuzz-config-%ld", dir, (long)getpid());
        (void)atexit(remove_file);
    }
    FILE *f = fopen(path, "w");
    fuzz_check(f != NULL && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

static void check_values(const struct config *cfg)
{
    size_t count;
    const struct config_setting *table = config_settings(&count);
    struct config other;
    struct err err = {0};
    fuzz_check(config_init_defaults(&other) == 0);
    for (size_t i = 0; i < count; i++) {
        struct buf a = {0}, b = {0};
        fuzz_check(config_get(cfg, table[i].name, &a) == 0);
        fuzz_check(config_set(&other, table[i].name, a.size > 0 ? a.data : "", &err) == 0);
        fuzz_check(config_get(&other, table[i].name, &b) == 0);
        fuzz_check(a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0));
        buf_free(&a);
        buf_free(&b);
    }
    fuzz_check(config_check(&other, &err) == 0);
    fuzz_check(config_restart_needed(cfg, &other) == NULL);
    config_free(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config cfg;
    struct err err = {0};
    write_file(data, size);
    fuzz_check(config_init_defaults(&cfg) == 0);
    int rc = config_load(&cfg, path, &err);
    fuzz_check(rc == 0 || (rc == TSR_EINVAL && err.code == rc && err.msg[0] != 0));
    if (rc == 0) {
        check_values(&cfg);
    }
    config_free(&cfg);
    return 0;
}
