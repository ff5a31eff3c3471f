/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Boost.Interprocess, managed_mapped_file as it comes: best fit, a lock that processes share. */
#include "../peer.h"
#include <boost/interprocess/managed_mapped_file.hpp>
#include <boost/version.hpp>
#include <string>

using boost::interprocess::managed_mapped_file;

namespace {

struct medium {
    std::string path;
    managed_mapped_file file;
};

void *create(const char *path, size_t size_bytes, int)
{
    return new medium{path, managed_mapped_file(boost::interprocess::create_only, path, size_bytes)};
}

void *open(const char *path)
{
    return new medium{path, managed_mapped_file(boost::interprocess::open_only, path)};
}

/* And cuts the file down to what is in use. */
void close(void *m)
{
    std::string path = static_cast<medium *>(m)->path;

    delete static_cast<medium *>(m);
    managed_mapped_file::shrink_to_fit(path.c_str());
}

uint64_t alloc(void *m, size_t size)
{
    return reinterpret_cast<uintptr_t>(static_cast<medium *>(m)->file.allocate(size, std::nothrow));
}

void release(void *m, uint64_t block)
{
    static_cast<medium *>(m)->file.deallocate(reinterpret_cast<void *>(block));
}

}

extern "C" {
extern const struct peer peer;
const struct peer peer = {BOOST_LIB_VERSION, create, open, close, alloc, release, nullptr, nullptr};
}
