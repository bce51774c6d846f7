#include "data/order/prefetcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "data/errors.h"

namespace espalier {
namespace {

using std::chrono_literals::operator""ms;

TEST(Prefetcher, ReturnsItemsInOrder) {
  Prefetcher<std::string> items([](int64_t i) { return std::to_string(i); }, 5, 8);
  EXPECT_EQ(items.next(), "5");
  EXPECT_EQ(items.next(), "6");
  EXPECT_EQ(items.next(), "7");
  EXPECT_THROW(items.next(), std::out_of_range);
}

TEST(Prefetcher, CarriesItemsThatOnlyMove) {
  Prefetcher<std::unique_ptr<int64_t>> items([](int64_t i) { return std::make_unique<int64_t>(i); },
                                             0, 2);
  EXPECT_EQ(*items.next(), 0);
  EXPECT_EQ(*items.next(), 1);
}

TEST(Prefetcher, WorksAheadNoFurtherThanItsDepth) {
  std::atomic<int64_t> made{0};
  Prefetcher<int64_t> items(
      [&](int64_t i) {
        ++made;
        return i;
      },
      0, 100, 2);
  for (int wait = 0; wait < 200 && made < 2; ++wait) std::this_thread::sleep_for(5ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(made, 2);
  items.next();
  for (int wait = 0; wait < 200 && made < 3; ++wait) std::this_thread::sleep_for(5ms);
  EXPECT_EQ(made, 3);
}

TEST(Prefetcher, RethrowsAfterTheItemsBeforeTheError) {
  Prefetcher<int64_t> items(
      [](int64_t i) {
        if (i == 2) throw DataError("sample 2 is bad");
        return i;
      },
      0, 10);
  EXPECT_EQ(items.next(), 0);
  EXPECT_EQ(items.next(), 1);
  EXPECT_THROW(items.next(), DataError);
  EXPECT_THROW(items.next(), DataError);
}

TEST(Prefetcher, StopsWhenItIsDestroyedEarly) {
  std::atomic<int64_t> made{0};
  {
    Prefetcher<int64_t> items(
        [&](int64_t i) {
          ++made;
          return i;
        },
        0, 1000000, 4);
    items.next();
  }
  EXPECT_LE(made, 6);
}

TEST(Prefetcher, RefusesDepthZero) {
  EXPECT_THROW(Prefetcher<int>([](int64_t) { return 0; }, 0, 1, 0), std::invalid_argument);
}

}  // namespace
}  // namespace espalier
