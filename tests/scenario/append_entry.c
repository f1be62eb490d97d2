/* append_entry RAFT_DIR VERSION COMMAND: one more entry at the end of the log of a host that is
 * stopped, in its last term: COMMAND (JSON), in a batch that says that it is of VERSION. As a newer
 * version of the program would have left it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/batch.h"
#include "consensus/core.h"
#include "consensus/disklog.h"
#include "consensus/marker.h"

enum { SEGMENT_BYTES = 8 * 1024 * 1024 };

static int append(const char *dir, int version, const char *command, uint64_t *index_out)
{
    static const uint8_t id[COMMAND_ID_SIZE] = "of a newer host";
    struct batch_command one = {.id = id, .data = command, .size = strlen(command)};
    struct marker marker = {0};
    struct disklog *log = NULL;
    struct err err = {0};
    int rc = marker_load(fs_real(), dir, &marker, &err);
    if (rc == 0 || rc == TSR_ENOENT) {
        rc = disklog_open(fs_real(), dir, SEGMENT_BYTES, marker.index, marker.term, NULL, NULL,
                          &log, &err);
    }
    marker_free(&marker);
    struct payload *p = rc == 0 ? batch_encode(0, &one, 1) : NULL;
    if (p) {
        p->data[0] = (char)version;
        struct disklog_entry entry = {.index = disklog_last_index(log) + 1,
                                      .term = disklog_last_term(log),
                                      .type = ENTRY_COMMAND,
                                      .data = p->data,
                                      .size = p->size};
        rc = disklog_append(log, &entry, 1);
        *index_out = entry.index;
        payload_unref(p);
    }
    if (log) {
        disklog_close(log);
    }
    if (rc != 0) {
        (void)fprintf(stderr, "append_entry: %s\n", err.msg[0] ? err.msg : err_text(rc));
    }
    return rc;
}

int main(int argc, char **argv)
{
    uint64_t index = 0;
    if (argc != 4) {
        (void)fprintf(stderr, "usage: append_entry RAFT_DIR VERSION COMMAND\n");
        return 2;
    }
    if (append(argv[1], (int)strtol(argv[2], NULL, 10), argv[3], &index) != 0) {
        return 1;
    }
    (void)printf("%llu\n", (unsigned long long)index);
    return 0;
}
