#include "trainer/checkpoint/checkpointer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include <torch/torch.h>

#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/host/host_name.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int64_t bytes_of(const TensorMap& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

std::string shard_name(int rank) {
  const std::string digits = std::to_string(rank);
  return "rank-" + std::string(digits.size() < 4 ? 4 - digits.size() : 0, '0') + digits +
         ".safetensors";
}

// "" when every value is finite.
std::string first_not_finite(const TensorMap& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_floating_point() && !at::isfinite(tensor).all().item<bool>()) return name;
  }
  return "";
}

// A full disk is better met before half of the file is on it.
void require_space(const std::string& directory, int64_t bytes) {
  const auto space = fs::space(directory);
  const double needed = 1.2 * static_cast<double>(bytes);
  if (static_cast<double>(space.available) < needed) {
    throw StorageError(directory + ": no space for the checkpoint: it needs " +
                       std::to_string(bytes) + " bytes and a reserve of a fifth, free are " +
                       std::to_string(space.available));
  }
}

}  // namespace

std::map<std::string, int> assign_writers(const TensorMap& tensors, int ranks) {
  std::vector<std::pair<int64_t, std::string>> by_size;
  for (const auto& [name, tensor] : tensors) {
    by_size.emplace_back(-static_cast<int64_t>(tensor.nbytes()), name);
  }
  std::sort(by_size.begin(), by_size.end());
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  std::map<std::string, int> writers;
  for (const auto& [negative_bytes, name] : by_size) {
    const auto least = std::min_element(load.begin(), load.end());
    *least -= negative_bytes;
    writers[name] = static_cast<int>(least - load.begin());
  }
  return writers;
}

Checkpointer::Checkpointer(Communicator& comm, RunObserver& observer, CheckpointerOptions options,
                           EventSink events)
    : comm_(comm), observer_(observer), options_(std::move(options)), events_(std::move(events)) {}

Checkpointer::~Checkpointer() {
  if (thread_.valid()) thread_.wait();
}

void Checkpointer::start(const TensorMap& tensors, const json& state, int64_t step, bool is_best) {
  settle();
  is_best_ = is_best;
  last_error_.clear();
  step_ = step;
  temporary_ = options_.root + "/" + checkpoint_name(step) + ".tmp-g" +
               std::to_string(options_.generation) + "-" + std::to_string(++saves_);
  const auto writers = assign_writers(tensors, options_.is_shared ? comm_.size() : 1);
  TensorMap share;
  for (const auto& [name, tensor] : tensors) {
    if (writers.at(name) == comm_.rank()) share[name] = tensor;
  }
  // Copied also on the CPU: the next update changes these tensors in place while they are written.
  share = snapshot_.take(share);
  phase_ = Phase::kWriting;
  thread_ = std::async(std::launch::async,
                       [this, share = std::move(share), text = json_text(state, 2) + "\n"] {
                         return write_share(share, text);
                       });
}

// On the writing thread. What went wrong travels as text to rank 0.
json Checkpointer::write_share(const TensorMap& share, const std::string& state_text) const {
  const auto start = Clock::now();
  json result = {
      {"files", json::object()}, {"error", ""}, {"not_finite", ""}, {"host", host_name()}};
  try {
    snapshot_.wait();
    result["not_finite"] = first_not_finite(share);
    if (result["not_finite"] != "") return result;
    if (options_.is_shared || comm_.rank() == 0) {
      fs::create_directories(temporary_);
      require_space(temporary_, bytes_of(share));
      const auto add = [&](const std::string& name, const FileDigest& digest) {
        result["files"][name] = {{"bytes", digest.bytes}, {"xxh3_128", digest.xxh3_128}};
      };
      const std::string shard = shard_name(comm_.rank());
      add(shard, write_durably(temporary_ + "/" + shard, [&](const auto& visit) {
            visit_safetensors(share, {{"format", "pt"}}, visit);
          }));
      if (comm_.rank() == 0) {
        add("state.json", write_durably(temporary_ + "/state.json", state_text));
      }
    }
    result["write_s"] = seconds_since(start);
    if (!observer_.approve_commit(step_)) {
      result["error"] = "the commit was refused: this generation is over";
    }
  } catch (const std::exception& error) {  // thread entry
    result["error"] = error.what();
  }
  return result;
}

// On rank 0's committing thread; `results` has every rank's.
json Checkpointer::commit(const json& results) {
  const auto start = Clock::now();
  json outcome = {{"error", ""}, {"events", json::array()}};
  const std::string target = options_.root + "/" + checkpoint_name(step_);
  try {
    const Manifest manifest{step_, options_.generation, comm_.size(), collect_files(results)};
    int64_t bytes = 0;
    for (const auto& [name, file] : manifest.files) bytes += file.bytes;
    if (!options_.is_ours()) {
      throw StorageError(options_.root + ": a newer generation has taken the run directory");
    }
    write_durably(temporary_ + "/manifest.json", manifest_text(manifest));
    sync_directory(temporary_);
    if (fs::exists(target)) rename_durably(target, target + ".superseded-" + utc_stamp());
    rename_durably(temporary_, target);
    observer_.on_committed(step_);  // at once: whoever is killed from here on goes on from it
    outcome["events"].push_back({{"event", "checkpoint_committed"},
                                 {"step", step_},
                                 {"bytes", bytes},
                                 {"write_s", results[0].at("write_s")},
                                 {"commit_s", seconds_since(start)}});
    if (is_best_) mark_best(options_.root, target);
    for (json& event : apply_retention(options_.root, options_.keep, verified_)) {
      outcome["events"].push_back(std::move(event));
    }
  } catch (const std::exception& error) {  // thread entry
    outcome["error"] = error.what();
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
  return outcome;
}

// What the manifest will name, seen with the size that its writer gave it.
std::map<std::string, FileDigest> Checkpointer::collect_files(const json& results) const {
  std::map<std::string, FileDigest> files;
  const auto who = [&](size_t rank) {
    return "rank " + std::to_string(rank) + " (host " +
           results[rank].at("host").get<std::string>() + ")";
  };
  for (size_t rank = 0; rank < results.size(); ++rank) {
    const std::string error = results[rank].at("error");
    if (!error.empty()) throw StorageError(who(rank) + ": " + error);
  }
  for (size_t rank = 0; rank < results.size(); ++rank) {
    for (const auto& [name, file] : results[rank].at("files").items()) {
      files[name] = {file.at("bytes"), file.at("xxh3_128")};
      const std::string path = temporary_ + "/" + name;
      const std::string wrong = wait_for_file(path, files[name].bytes, options_.time_to_show_s);
      if (wrong.empty()) continue;
      throw StorageError(who(rank) + " wrote " + path + " with " +
                         std::to_string(files[name].bytes) + " bytes, but for " + who(0) + " " +
                         wrong + ": all hosts must see one run.directory, or set " +
                         "checkpoint.shared = false");
    }
  }
  return files;
}

double Checkpointer::pending() const {
  return thread_.valid() && thread_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

void Checkpointer::advance(double pending_of_all) {
  if (phase_ == Phase::kIdle || pending_of_all > 0) return;
  if (phase_ == Phase::kWriting) {
    begin_commit();
  } else {
    last_error_ = conclude();
  }
}

std::string Checkpointer::settle() {
  if (phase_ == Phase::kWriting) begin_commit();
  if (phase_ == Phase::kCommitting) last_error_ = conclude();
  return last_error_;
}

void Checkpointer::finish() {
  const std::string error = settle();
  if (error.empty()) return;
  throw StorageError("the checkpoint of step " + std::to_string(step_) +
                     " could not be saved: " + error);
}

void Checkpointer::begin_commit() {
  json results = json::array();
  for (const std::string& text : gather_text(comm_, json_text(thread_.get()))) {
    results.push_back(json::parse(text));
  }
  phase_ = Phase::kCommitting;
  for (const json& result : results) {
    const std::string name = result.at("not_finite");
    if (name.empty()) continue;
    phase_ = Phase::kIdle;
    throw DoNotRequeueError("step " + std::to_string(step_) + ": " + name +
                            " has values that are not finite; such a state is never saved, and " +
                            "the checkpoints before it are untouched");
  }
  if (comm_.rank() != 0) return;
  thread_ = std::async(std::launch::async, [this, results] { return commit(results); });
}

std::string Checkpointer::conclude() {
  const std::string text = broadcast_text(comm_, comm_.rank() == 0 ? json_text(thread_.get()) : "");
  const json outcome = json::parse(text);
  phase_ = Phase::kIdle;
  const std::string error = outcome.at("error");
  if (error.empty()) {
    last_step_ = step_;
    if (comm_.rank() != 0) observer_.on_committed(step_);
  }
  if (!error.empty()) report_failure(error);
  if (comm_.rank() == 0) {
    for (const json& event : outcome.at("events")) events_(event);
  }
  return error;
}

void Checkpointer::report_failure(const std::string& why) {
  observer_.on_checkpoint_failed(step_, why);
  if (comm_.rank() != 0) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);  // where rank 0 does not see it
    return;
  }
  spdlog::warn(
      "the checkpoint of step {} was not saved: {}. Training goes on, and the next save tries "
      "again; until one succeeds a restart goes back to {}. Make room under {}, or see to what the "
      "message names",
      step_, why, last_step_ < 0 ? "the beginning" : "step " + std::to_string(last_step_),
      options_.root);
  events_({{"event", "checkpoint_failed"}, {"step", step_}, {"reason", why}});
}

}  // namespace espalier
