/* Counters and gauges, process-wide, for `GET /metrics` (Prometheus text format 0.0.4).
 * To add one: a row here, metric_add where it happens. Thread: any; relaxed atomics. */
#ifndef TESSERA_BASE_METRIC_H
#define TESSERA_BASE_METRIC_H

#include <stdint.h>

struct buf;

/* X(name, kind, help): shown as tessera_<name> */
#define TSR_METRICS(X)                                                                     \
    X(requests_total, COUNTER, "HTTP requests answered")                                   \
    X(requests_failed_total, COUNTER, "HTTP requests answered with a 5xx status")          \
    X(requests_active, GAUGE, "HTTP requests being handled")                               \
    X(connections, GAUGE, "Open client connections")                                       \
    X(client_bytes_in_total, COUNTER, "Bytes received from clients")                       \
    X(client_bytes_out_total, COUNTER, "Bytes sent to clients")                            \
    X(peer_bytes_in_total, COUNTER, "Bytes received from other hosts")                     \
    X(peer_bytes_out_total, COUNTER, "Bytes sent to other hosts")                          \
    X(peer_calls_total, COUNTER, "Calls made to other hosts")                              \
    X(peer_calls_failed_total, COUNTER, "Calls to other hosts that failed")                \
    X(peer_bad_frames_total, COUNTER, "Host connections dropped for bad frames")           \
    X(peer_bad_names_total, COUNTER, "Host connections dropped for their name")            \
    X(peer_stalled_total, COUNTER, "Host connections given up for standing still")         \
    X(raft_dropped_total, COUNTER, "Consensus messages dropped before sending")            \
    X(uploads_total, COUNTER, "Image uploads completed")                                   \
    X(uploads_failed_total, COUNTER, "Image uploads that failed")                          \
    X(uploads_active, GAUGE, "Image uploads under way")                                    \
    X(downloads_total, COUNTER, "Image downloads completed")                               \
    X(downloads_failed_total, COUNTER, "Image downloads cut short")                        \
    X(downloads_active, GAUGE, "Image downloads under way")                                \
    X(chunks_written_total, COUNTER, "Chunks stored on this host")                         \
    X(chunks_read_total, COUNTER, "Chunks read from this host's disks")                    \
    X(chunks_bad_total, COUNTER, "Chunks found damaged and quarantined")                   \
    X(keystone_lookups_total, COUNTER, "Tokens that an external Keystone was asked about") \
    X(keystone_failed_total, COUNTER, "Those without a usable answer")                     \
    X(leader_changes_total, COUNTER, "Changes of the leader seen by this host")            \
    X(is_leader, GAUGE, "1 while this host leads")                                         \
    X(applied_index, GAUGE, "Index of the last log entry applied")                         \
    X(stale_reads_total, COUNTER, "Reads answered from local state without a quorum")

enum metric {
#define X(name, kind, help) METRIC_##name,
    TSR_METRICS(X)
#undef X
        METRIC_COUNT
};

void metric_add(enum metric metric, int64_t n); /* a gauge may go down */
void metric_set(enum metric metric, int64_t value);
int64_t metric_get(enum metric metric);

/* Append all of them as text. Returns 0 or TSR_ENOMEM. */
int metric_render(struct buf *out);

#endif
