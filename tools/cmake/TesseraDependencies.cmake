# The libraries that Tessera stands on. Each has one door in the source (docs/architecture.md).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
pkg_check_modules(LIBUV REQUIRED IMPORTED_TARGET libuv>=1.44)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(PACKERS REQUIRED IMPORTED_TARGET zlib liblzma libzstd)

find_library(LMDB_LIBRARY lmdb REQUIRED)
find_library(HTTP_PARSER_LIBRARY http_parser REQUIRED)
find_library(INIH_LIBRARY inih REQUIRED)

# libraft is linked statically: its versions differ in layout under one soname.
find_file(RAFT_HEADER raft.h REQUIRED)
find_library(RAFT_LIBRARY libraft.a REQUIRED)
file(STRINGS ${RAFT_HEADER} raft_version_lines REGEX "#define RAFT_VERSION_(MINOR|RELEASE) ")
string(REGEX REPLACE ".*RAFT_VERSION_MINOR ([0-9]+).*" "\\1" RAFT_MINOR "${raft_version_lines}")
if(NOT RAFT_MINOR EQUAL 22)
    message(FATAL_ERROR "libraft 0.22.0 or 0.22.1 is needed (found 0.${RAFT_MINOR}); run tools/install-deps")
endif()

set(TSR_DEPS_base PkgConfig::JANSSON OpenSSL::Crypto ${INIH_LIBRARY})
set(TSR_DEPS_sys PkgConfig::LIBUV PkgConfig::CURL PkgConfig::PACKERS OpenSSL::SSL OpenSSL::Crypto ${LMDB_LIBRARY} Threads::Threads)
set(TSR_DEPS_cluster m)
set(TSR_DEPS_http ${HTTP_PARSER_LIBRARY})
set(TSR_DEPS_consensus ${RAFT_LIBRARY})
