/* Asserts for our own bugs; they stay on in release builds. Disk, peers and clients can never trip
 * one. tsr_assert prints the expression and place, then aborts. */
#ifndef TESSERA_BASE_ASSERT_H
#define TESSERA_BASE_ASSERT_H

void tsr_assert_fail(const char *expr, const char *file, int line) __attribute__((noreturn));

/* For code that can not go on without memory, and must not go on with half a result: says so and
 * ends the process with 71 (EX_OSERR). What was acknowledged is on disk. */
void tsr_out_of_memory(void) __attribute__((noreturn));

#define tsr_assert(expr) ((expr) ? (void)0 : tsr_assert_fail(#expr, __FILE__, __LINE__))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define array_len(a) (sizeof(a) / sizeof((a)[0]))

#endif
