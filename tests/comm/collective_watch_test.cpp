#include "comm/collective_watch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "comm/transport/thread_communicator.h"

namespace espalier {
namespace {

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string temporary(const std::string& name) {
  return (std::filesystem::temp_directory_path() / (name + std::to_string(::getpid()))).string();
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

CollectiveCall sum_of(int64_t elements) { return {"all_reduce", at::ones({elements}), "sum"}; }

TEST(CollectiveCall, DescribesWhatWasAskedFor) {
  EXPECT_EQ(CollectiveCall("all_reduce", at::ones({3, 4}), "sum").describe(),
            "all_reduce(Float[3, 4], sum)");
  CollectiveCall broadcast("broadcast", at::ones({1, 2, 1, 2, 1, 2}, at::kByte));
  broadcast.root = 1;
  EXPECT_EQ(broadcast.describe(), "broadcast(Byte[1, 2, 1, 2, 1, ...], root 1)");
}

TEST(CollectiveWatch, NamesTheOldestUnfinishedOperation) {
  CollectiveWatch watch;
  const auto first = watch.on_issue("world", sum_of(1));
  const auto second = watch.on_issue("world", sum_of(2));
  const auto third = watch.on_issue("world", sum_of(3));
  watch.on_end(first);
  watch.on_end(third);
  const auto latest = watch.latest();
  EXPECT_EQ(latest.issued, 3u);
  EXPECT_EQ(latest.completed, third);
  EXPECT_EQ(latest.operation, "all_reduce(Float[2], sum)");
  EXPECT_GE(latest.waited_s, 0);
  watch.on_end(second);
  EXPECT_EQ(watch.latest().operation, "");
  EXPECT_EQ(watch.latest().waited_s, 0);
}

TEST(CollectiveWatch, RemembersTheLatestOperationsOnly) {
  CollectiveWatch watch(/*capacity=*/4);
  for (int64_t i = 1; i <= 10; ++i) watch.on_issue("world", sum_of(i));
  EXPECT_EQ(watch.latest().operation, "all_reduce(Float[7], sum)");
  watch.on_end(2);  // long forgotten
  EXPECT_EQ(watch.latest().completed, 0u);
  for (uint64_t i = 7; i <= 10; ++i) watch.on_end(i);
  EXPECT_EQ(watch.latest().operation, "");
}

TEST(CollectiveWatch, DumpsAHeaderAndItsOperationsAsJsonLines) {
  CollectiveWatch watch;
  watch.on_end(watch.on_issue("world", sum_of(5)));
  watch.on_start(watch.on_issue("node", sum_of(6)));
  const std::string path = temporary("collectives");
  watch.dump(path, /*rank=*/3);
  const auto lines = lines_of(path);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(has(
      lines[0],
      R"json({"rank": 3, "issued": 2, "completed": 1, "waits_for": "all_reduce(Float[6], sum)")json"))
      << lines[0];
  EXPECT_TRUE(
      has(lines[1],
          R"json("sequence": 1, "group": "world", "operation": "all_reduce(Float[5], sum)")json"))
      << lines[1];
  EXPECT_TRUE(has(lines[1], R"("bytes": 20, "state": "done")")) << lines[1];
  EXPECT_TRUE(has(lines[2], R"("group": "node")")) << lines[2];
  EXPECT_TRUE(has(lines[2], R"("state": "started")")) << lines[2];
  EXPECT_TRUE(has(lines[2], R"("done_s": null)")) << lines[2];
  std::filesystem::remove(path);
}

TEST(CollectiveWatch, SaysWhenItCannotWrite) {
  const CollectiveWatch watch;
  EXPECT_THROW(watch.dump("/no/such/folder/file", 0), std::runtime_error);
}

TEST(CollectiveWatch, MayBeReadWhileOthersRecord) {
  CollectiveWatch watch(/*capacity=*/16);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int64_t n = 0; n < 1000; ++n) watch.on_end(watch.on_issue("world", sum_of(1)));
    });
  }
  for (int i = 0; i < 1000; ++i) EXPECT_LE(watch.latest().completed, 3000u);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(watch.latest().issued, 3000u);
  EXPECT_EQ(watch.latest().operation, "");
}

TEST(CollectiveWatch, RecordsWhatACommunicatorIsAskedFor) {
  run_ranks(2, [](Communicator& communicator) {
    communicator.all_reduce(at::ones({2}))->wait();
    const at::Tensor rows = at::empty({2, 3});
    communicator.all_gather(at::ones({3}), rows)->wait();
    communicator.barrier();
    const auto latest = communicator.watch()->latest();
    EXPECT_EQ(latest.issued, 3u);
    EXPECT_EQ(latest.completed, 3u);
    EXPECT_EQ(latest.operation, "");
  });
}

}  // namespace
}  // namespace espalier
