/* Whether clients could reach another host: a connection to its API, without a word said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/sys/net.h"

enum { PROBE_TIMEOUT_MS = 1500 };

struct probe {
    struct cluster *cluster;
    struct task task;
    uint64_t host;
    bool reached;
};

static void probe_end(struct probe *p)
{
    struct cluster *cluster = p->cluster;
    uint64_t host = p->host;
    bool reached = p->reached;
    free(p);
    cluster_probed(cluster, host, reached);
}

static void probe_closed(struct conn *conn, void *arg)
{
    (void)conn;
    probe_end(arg);
}

static void probe_connected(struct conn *conn, void *arg, int status)
{
    struct probe *p = arg;
    p->reached = status == 0;
    conn_close(conn, probe_closed, p);
}

static void probe_failed(struct task *task)
{
    probe_end(container_of(task, struct probe, task));
}

/* "https://host:port/.." -> "host:port" */
static bool address_of(const char *url, char *out, size_t size)
{
    const char *p = strstr(url, "://");
    if (p == NULL || !str_copy(out, size, p + 3)) {
        return false;
    }
    out[strcspn(out, "/")] = '\0';
    return true;
}

void probe_api(void *arg, struct cluster *cluster, uint64_t host, const char *api_url)
{
    struct daemon *d = arg;
    struct probe *p = calloc(1, sizeof(*p));
    struct conn *conn = NULL;
    char address[300];
    tsr_assert(p != NULL);
    *p = (struct probe){.cluster = cluster, .host = host};
    if (!address_of(api_url, address, sizeof(address)) ||
        conn_open(d->control, address, NULL, NULL, PROBE_TIMEOUT_MS, probe_connected, p, &conn) !=
            0) {
        p->task.run = probe_failed; /* never inside the call */
        loop_post(d->control, &p->task);
    }
}
