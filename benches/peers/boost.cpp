/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Boost.Interprocess, managed_mapped_file as it comes: best fit, a lock that processes share. */
#include "../peer.h"
#include <boost/interprocess/managed_mapped_file.hpp>
#include <boost/version.hpp>
#include <algorithm>
#include <random>
#include <string>
#include <vector>

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

/* For access.c: nodes in random order, in a table and in a circle. */
struct node {
    boost::interprocess::offset_ptr<node> next;
    uint64_t value;
};

std::vector<node> nodes;
std::vector<boost::interprocess::offset_ptr<node>> table;

}

extern "C" {
extern const struct peer peer;
const struct peer peer = {BOOST_LIB_VERSION, create, open, close, alloc, release, nullptr, nullptr};

void offset_ptr_make(size_t count)
{
    nodes = std::vector<node>(3 * count); // every third one is used: so far apart are blobs with their markers
    table.clear();
    for (size_t i = 0; i < count; i++)
        table.push_back(&nodes[3 * i]);
    std::shuffle(table.begin(), table.end(), std::mt19937(1));
    for (size_t i = 0; i < count; i++)
        table[i]->next = table[(i + 1) % count];
}

uint64_t offset_ptr_table(size_t steps)
{
    uint64_t sum = 0;

    for (size_t done = 0; done < steps; done += table.size())
        for (const auto &p : table)
            sum += p->value;
    return sum;
}

uint64_t offset_ptr_list(size_t steps)
{
    node *at = table[0].get();

    for (size_t done = 0; done < steps; done++)
        at = at->next.get();
    return at->value;
}
}
