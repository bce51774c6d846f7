#include "trainer/host/host_memory.h"

#include <cstdint>
#include <cstdlib>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace espalier {
namespace {

constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr size_t kLargestReserve = size_t{64} << 30;
// Address space set aside, as a part of the machine's memory. Pages cost nothing until touched.
constexpr size_t kPartOfMemory = 4;

}  // namespace

void keep_heap_in_huge_pages(int local_processes) {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);  // never
  mallopt(M_TOP_PAD, 64 << 20);
  const auto memory =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  const size_t size = std::min(
      kLargestReserve, memory / kPartOfMemory / static_cast<size_t>(std::max(1, local_processes)));
  // The advice outlives the allocation: what is freed here stays at the top of the heap, and later
  // allocations are cut from it.
  void* const block = std::malloc(size);
  if (block == nullptr) return;  // a limit on address space: the heap grows in small pages
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(block) + size) & ~(kHugePage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  std::free(block);
}

}  // namespace espalier

#else

namespace espalier {

void keep_heap_in_huge_pages(int) {}

}  // namespace espalier

#endif
