#include "trainer/record/metrics.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <fstream>
#include <map>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

using nlohmann::json;

double unix_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

RunLog::RunLog(const std::string& run_directory, bool tensorboard, int generation,
               int64_t start_step)
    : generation_(generation),
      metrics_(run_directory + "/metrics.jsonl"),
      events_(run_directory + "/events.jsonl"),
      history_(run_directory + "/evaluation/history.jsonl"),
      interference_(run_directory + "/interference.jsonl"),
      alignment_(run_directory + "/alignment.jsonl") {
  if (tensorboard) {
    tensorboard_ = std::make_unique<TensorboardWriter>(run_directory + "/tensorboard",
                                                       unix_time_s(), start_step);
  }
  thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
}

RunLog::~RunLog() { flush(); }

void RunLog::metrics(const StepReport& report) {
  post([this, report, now = unix_time_s()] {
    json line = to_json(report);
    line["time"] = now;
    append(metrics_, std::move(line));
    if (!tensorboard_) return;
    std::vector<std::pair<std::string, double>> values = {
        {report.stage + "/loss", report.total_loss},
        {report.stage + "/learning_rate", report.learning_rate},
        {report.stage + "/grad_norm", report.grad_norm},
        {report.stage + "/samples_per_s", report.samples_per_s},
        {report.stage + "/tokens_per_s", report.tokens_per_s},
        {report.stage + "/flops_per_s", report.flops_per_s},
        {report.stage + "/host_memory_bytes", static_cast<double>(report.host_memory_bytes)}};
    if (report.peak_share > 0) values.emplace_back(report.stage + "/peak_share", report.peak_share);
    if (report.device_memory_bytes > 0) {
      values.emplace_back(report.stage + "/device_memory_bytes",
                          static_cast<double>(report.device_memory_bytes));
    }
    for (const auto& [name, loss] : report.losses) {
      values.emplace_back(report.stage + "/loss/" + name, loss);
    }
    note(tensorboard_->add_scalars(values, report.global_step, now), tensorboard_->file());
  });
}

void RunLog::event(json event) {
  event["time"] = unix_time_s();
  post([this, event = std::move(event)] { append(events_, event); });
}

void RunLog::evaluation(const std::string& stage, int64_t step, int64_t global_step,
                        const std::vector<Section>& sections,
                        const std::map<std::string, double>& validation) {
  post([this, stage, step, global_step, sections, validation, now = unix_time_s()] {
    json list = to_json(sections);
    for (json& section : list) section.erase("tables");
    append(history_, {{"stage", stage},
                      {"step", step},
                      {"global_step", global_step},
                      {"validation", validation},
                      {"sections", std::move(list)}});
    if (!tensorboard_) return;
    std::vector<std::pair<std::string, double>> losses;
    for (const auto& [name, loss] : validation) losses.emplace_back(stage + "/" + name, loss);
    if (!losses.empty()) {
      note(tensorboard_->add_scalars(losses, global_step, now), tensorboard_->file());
    }
    add_to_tensorboard(stage, global_step, sections, now);
  });
}

void RunLog::add_to_tensorboard(const std::string& stage, int64_t global_step,
                                const std::vector<Section>& sections, double now) {
  for (const Section& section : sections) {
    const std::string prefix = stage + "/" + section.name + "/";
    std::vector<std::pair<std::string, double>> numbers = numbers_of(section);
    for (auto& [tag, value] : numbers) tag.insert(0, prefix);
    if (!numbers.empty()) {
      note(tensorboard_->add_scalars(numbers, global_step, now), tensorboard_->file());
    }
    for (const Picture& picture : section.pictures) {
      try {
        const std::string png = read_text_file(picture.path);
        note(tensorboard_->add_png(prefix + picture.name, png, global_step, now),
             tensorboard_->file());
      } catch (const std::exception& error) {
        spdlog::warn("TensorBoard: {} left out: {}", picture.path, error.what());
      }
    }
  }
}

void RunLog::interference(json line) {
  line["time"] = unix_time_s();
  post([this, line = std::move(line)] { append(interference_, line); });
}

void RunLog::alignment(json line) {
  line["time"] = unix_time_s();
  post([this, line = std::move(line)] { append(alignment_, line); });
}

void RunLog::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty() && !is_writing_; });
}

void RunLog::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  changed_.notify_all();
}

void RunLog::run(const std::stop_token& stop) {
  while (true) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !queue_.empty(); })) return;
      work = std::move(queue_.front());
      queue_.pop_front();
      is_writing_ = true;
    }
    try {
      work();
    } catch (const std::exception& error) {  // thread entry
      spdlog::error("metrics: {}", error.what());
    }
    const std::lock_guard lock(mutex_);
    is_writing_ = false;
    changed_.notify_all();
  }
}

void RunLog::append(AppendFile& file, json line) {
  line["generation"] = generation_;
  note(file.append_line(json_text(line)), file);
}

// One message when it begins and one when it ends.
void RunLog::note(bool is_written, AppendFile& file) {
  if (!is_written) {
    if (file.left_out() == 1) spdlog::error("{}; the run goes on without it", file.error());
  } else if (const int64_t lines = file.take_left_out(); lines > 0) {
    spdlog::warn("{} goes on; {} entries could not be written", file.path(), lines);
  }
}

void MetricsHistory::add(const std::string& text) {
  json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return;
  const int64_t step = line.value("global_step", int64_t{0});
  const int generation = line.value("generation", 0);
  // A relaunch starts from a checkpoint: later steps of older generations were never kept.
  if (generation > newest_) {
    newest_ = generation;
    by_step_.erase(by_step_.lower_bound(step), by_step_.end());
  }
  by_step_[step] = std::move(line);
}

std::vector<json> read_by_step(const std::string& path) {
  MetricsHistory history;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) history.add(text);
  std::vector<json> lines;
  for (const auto& [step, line] : history.by_step()) lines.push_back(line);
  return lines;
}

std::vector<json> read_metrics(const std::string& run_directory) {
  return read_by_step(run_directory + "/metrics.jsonl");
}

}  // namespace espalier
