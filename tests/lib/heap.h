/* Memory that runs out on order: malloc, calloc and realloc of the whole program (libraft, jansson
 * and LMDB too) go through here in programs that call these. Only the thread that gave the order is
 * refused. With a sanitizer, which has a heap of its own, heap_can_fail is false. */
#ifndef TEST_LIB_HEAP_H
#define TEST_LIB_HEAP_H

#include <stdbool.h>
#include <stdint.h>

bool heap_can_fail(void);
/* Let @after calls through, then refuse one, or with @forever all that follow. */
void heap_fail(uint64_t after, bool forever);
/* Not refused for a while, on this thread: for libraries whose failure ends the process. */
void heap_pause(bool on);
/* No more; whether any call was refused. */
bool heap_ok(void);

#endif
