/* tesserad: one program a host.  tesserad --config FILE [--recover [INDEX]] | --sample-config |
 * --version | --help */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/buf.h"
#include "tessera/base/log.h"

static const char usage[] =
    "usage: tesserad [--config FILE]   run this host's daemon in the foreground\n"
    "       tesserad [--config FILE] --recover [INDEX]\n"
    "                                  when most voters are lost for good: tell how far this "
    "host's\n"
    "                                  log goes; with that INDEX make it the only voter. Read\n"
    "                                  docs/operations.md first\n"
    "       tesserad --sample-config   print all settings with their defaults\n"
    "       tesserad --version\n"
    "Settings: FILE, else /etc/tessera/tesserad.conf if it exists. See docs/operations.md.\n";

static const char default_config[] = "/etc/tessera/tesserad.conf";

static int print_sample(void)
{
    struct buf text;
    buf_init(&text);
    int rv = config_print_sample(&text);
    if (rv == 0) {
        (void)fputs(text.data, stdout);
    }
    buf_free(&text);
    return rv == 0 ? 0 : EXIT_FAILURE;
}

/* Idle clients must leave descriptors to the hosts' own connections, to logs and chunk files: an
 * eighth of them, 256 at least, or half of very few. */
static void bound_connections(struct daemon *d)
{
    struct rlimit limit;
    d->connections_max = (uint64_t)d->cfg.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return;
    }
    uint64_t files = limit.rlim_cur, left = files / 8 > 256 ? files / 8 : 256;
    uint64_t most = files - (left < files / 2 ? left : files / 2);
    if (d->connections_max > most) {
        log_info("daemon", "%llu descriptors are the limit: %llu client connections at a time",
                 (unsigned long long)files, (unsigned long long)most);
        d->connections_max = most;
    }
}

static int load_config(struct daemon *d, const char *path)
{
    struct err err = {0};
    if (config_init_defaults(&d->cfg) != 0) {
        return EXIT_FAILURE;
    }
    bool given = path != NULL;
    if (!given) {
        path = default_config;
    }
    if (given || access(path, R_OK) == 0) {
        d->config_path = path;
    }
    if (d->config_path != NULL && config_load(&d->cfg, path, &err) != 0) {
        (void)fprintf(stderr, "tesserad: %s\n", err.msg);
        return EXIT_CONFIG;
    }
    if (host_addresses_of(&d->cfg, &d->addresses, &err) != 0) {
        (void)fprintf(stderr, "tesserad: %s\n", err.msg);
        return EXIT_CONFIG;
    }
    if (d->cfg.admin_socket[0] == '\0') {
        char socket[PATH_BYTES];
        path_join(socket, d->cfg.data_dir, "admin.sock");
        if (config_set(&d->cfg, "admin_socket", socket, &err) != 0) {
            (void)fprintf(stderr, "tesserad: %s\n", err.msg);
            return EXIT_CONFIG;
        }
    }
    int rv = d->cfg.log_file[0] != '\0' ? log_open(d->cfg.log_file) : 0;
    if (rv != 0) {
        (void)fprintf(stderr, "tesserad: the log file %s can not be opened: %s\n", d->cfg.log_file,
                      err_text(rv));
        return rv == TSR_EEXIST ? EXIT_CONFIG : exit_code_of(rv);
    }
    settings_log(&d->cfg);
    log_set_host(d->addresses.name);
    bound_connections(d);
    return 0;
}

/* Many connections and chunk files: as many descriptors as the system allows this process. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int data_dir_hold(struct daemon *d)
{
    char path[PATH_BYTES];
    path_join(path, d->cfg.data_dir, "lock");
    int rv = fs_hold(path);
    if (rv != 0) {
        log_error("daemon", "data_dir %s can not be used: %s", d->cfg.data_dir,
                  rv == TSR_EEXIST ? "another process runs on it" : err_text(rv));
    }
    return rv != 0 ? exit_code_of(rv) : 0;
}

/* Form or run. A host that was just formed starts anew in the same process (same pid), so that
 * everything is built from what is on disk, in one way. */
static int run(struct daemon *d)
{
    struct err err = {0};
    int rv = fs_mkdirs(fs_real(), d->cfg.data_dir);
    if (rv != 0) {
        log_error("daemon", "data_dir %s can not be made: %s", d->cfg.data_dir, err_text(rv));
        return rv == TSR_EEXIST ? EXIT_CONFIG : exit_code_of(rv);
    }
    rv = data_dir_hold(d);
    if (rv != 0) {
        return rv;
    }
    rv = uv_loop_create("control", &d->control);
    if (rv != 0) {
        log_error("daemon", "the control loop can not be made: %s", err_text(rv));
        return exit_code_of(rv);
    }
    rv = host_files_load(d->cfg.data_dir, &d->files, &err);
    if (rv == TSR_ENOENT) {
        return form_run(d);
    }
    if (rv != 0) {
        log_error("daemon", "can not start: %s", err.msg);
        return exit_code_of(rv);
    }
    return daemon_run(d);
}

int main(int argc, char **argv)
{
    const char *config = NULL, *index = NULL;
    bool recover = false;
    json_memory_or_end();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--sample-config") == 0) {
            return print_sample();
        }
        if (strcmp(argv[i], "--version") == 0) {
            (void)printf("tesserad %s\n", TSR_VERSION);
            return 0;
        }
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            config = argv[++i];
            continue;
        }
        if (strcmp(argv[i], "--recover") == 0) {
            recover = true;
            index = i + 1 < argc && argv[i + 1][0] != '-' ? argv[++i] : NULL;
            continue;
        }
        bool help = strcmp(argv[i], "--help") == 0;
        (void)fputs(usage, help ? stdout : stderr);
        return help ? 0 : EXIT_CONFIG;
    }
    struct daemon *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return EXIT_FAILURE;
    }
    d->argv = argv;
    raise_file_limit();
    int code = load_config(d, config);
    if (code == 0) {
        code = recover ? recover_run(d, index) : run(d);
        uv_loop_free(d->control);
    }
    host_files_free(&d->files);
    config_free(&d->cfg);
    free(d);
    return code;
}
