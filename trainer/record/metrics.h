#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/evaluation/section.h"
#include "trainer/record/append_file.h"
#include "trainer/record/step_report.h"
#include "trainer/record/tensorboard.h"

namespace espalier {

// What a run writes down while it goes on: metrics.jsonl, events.jsonl, evaluation/history.jsonl,
// interference.jsonl, alignment.jsonl and TensorBoard files. Calls return at once; a thread of its
// own does the writing, in order. What cannot be written is left out whole, said once, and the run
// goes on; the log goes on too as soon as the disk takes it again. Rank 0 only; any thread may
// call.
class RunLog {
 public:
  RunLog(const std::string& run_directory, bool tensorboard, int generation, int64_t start_step);
  ~RunLog();  // writes what is left
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  void metrics(const StepReport& report);
  void event(nlohmann::json event);
  // A line of history.jsonl, without the tables so that it stays small; in TensorBoard the numbers
  // and pictures by path: "codes/reconstruct/psnr_db/3" of stage "codes".
  // `validation`: losses on held-out data, by names that begin with "validation/".
  void evaluation(const std::string& stage, int64_t step, int64_t global_step,
                  const std::vector<Section>& sections,
                  const std::map<std::string, double>& validation = {});
  // Lines of interference.jsonl and alignment.jsonl; they have a "global_step".
  void interference(nlohmann::json line);
  void alignment(nlohmann::json line);
  void flush();  // blocks until all of the above is in the files

 private:
  void post(std::function<void()> work);
  void run(const std::stop_token& stop);
  void add_to_tensorboard(const std::string& stage, int64_t global_step,
                          const std::vector<Section>& sections, double now);
  void append(AppendFile& file, nlohmann::json line);
  void note(bool is_written, AppendFile& file);

  int generation_;
  AppendFile metrics_, events_, history_, interference_, alignment_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> queue_;
  bool is_writing_ = false;
  std::jthread thread_;  // last: joins before the rest is gone
};

// Lines of metrics.jsonl, or of another such file, by global step: where a relaunch repeated steps,
// those of the newest generation.
class MetricsHistory {
 public:
  // Text that is no JSON object was cut short by a kill, and is left out.
  void add(const std::string& text);
  const std::map<int64_t, nlohmann::json>& by_step() const { return by_step_; }

 private:
  std::map<int64_t, nlohmann::json> by_step_;
  int newest_ = 0;
};

// Such a file in the order of steps, one line per step; empty where there is none.
std::vector<nlohmann::json> read_by_step(const std::string& path);

// metrics.jsonl of a run in the order of steps, one line per reported step.
std::vector<nlohmann::json> read_metrics(const std::string& run_directory);

}  // namespace espalier
