/* The payload of a command entry: the commands that a leader gathered into one log entry.
 *
 *   u8 version = 1 | u64 wall_us | u32 count | count x { id[16] | u32 size | bytes } | 0 to 8 bytes
 *
 * Thread: any; pure. */
#ifndef TESSERA_CONSENSUS_BATCH_H
#define TESSERA_CONSENSUS_BATCH_H

#include "tessera/consensus.h"

enum { BATCH_HEAD = 13, BATCH_COMMAND_HEAD = COMMAND_ID_SIZE + 4 };

struct payload;

/* One command to be encoded. */
struct batch_command {
    const uint8_t *id;
    const char *data;
    size_t size;
};
/* Bytes that @count commands with @bytes of data in all take. */
size_t batch_size(unsigned count, size_t bytes);
/* NULL when out of memory. */
struct payload *batch_encode(int64_t wall_us, const struct batch_command *commands, unsigned count);

/* TSR_EPROTO: no batch; TSR_ENOTSUP: one of a version that this program does not know. */
int batch_check(const void *data, size_t size);
/* Commands point into @data; *commands_out is the caller's to free. As batch_check; TSR_ENOMEM.
 */
int batch_decode(const void *data, size_t size, int64_t *wall_us_out,
                 struct fsm_command **commands_out, unsigned *count_out);

#endif
