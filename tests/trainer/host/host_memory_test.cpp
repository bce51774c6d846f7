#include "trainer/host/host_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <cstring>
#include <thread>

namespace espalier {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasOwnHeap = true;
#else
constexpr bool kHasOwnHeap = false;
#endif

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

void touch_and_free(size_t bytes) {
  void* volatile block = std::malloc(bytes);
  ASSERT_NE(block, nullptr);
  std::memset(block, 1, bytes);
  std::free(block);
}

TEST(HostMemory, WhatWasFreedFaultsNoMore) {
  if (kHasOwnHeap) GTEST_SKIP() << "sanitizers bring a heap of their own";
  keep_heap_in_huge_pages(1);
  touch_and_free(100 * kMiB);
  const long before = page_faults();
  for (int i = 0; i < 20; ++i) touch_and_free(100 * kMiB);
  EXPECT_LT(page_faults() - before, 1000);  // 25600 pages are touched each time
}

// Heaps of other threads hold no block as large as this.
TEST(HostMemory, OtherThreadsStillGetLargeBlocks) {
  keep_heap_in_huge_pages(1);
  std::thread([] { touch_and_free(300 * kMiB); }).join();
}

}  // namespace
}  // namespace espalier
