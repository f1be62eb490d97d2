/* The one place that includes libraft's header. Its versions differ in layout and in who owns what
 * memory, under one soname: the library is linked statically and other versions are refused here.
 */
#ifndef TESSERA_CONSENSUS_LIBRAFT_H
#define TESSERA_CONSENSUS_LIBRAFT_H

#include <raft.h>

#if RAFT_VERSION_NUMBER < 2200 || RAFT_VERSION_NUMBER > 2201
#error "libraft 0.22.0 or 0.22.1 is needed: other versions differ in layout and memory ownership"
#endif

#endif
