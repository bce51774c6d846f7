#include "trainer/checkpoint/shared_directory.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

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

constexpr const char* kProbe = ".shared-probe-";

std::string new_nonce() {
  std::random_device random;
  return std::to_string(random()) + "-" + std::to_string(random());
}

bool eventually(double seconds, const std::function<bool()>& condition) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return true;
}

// By reading the directory: opening one asks the server what is new, which looking for a name does
// not.
bool is_listed(const fs::path& directory, const std::string& name) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().filename() == name) return true;
  }
  return false;
}

void remove_probes(const std::string& directory) {
  std::vector<fs::path> probes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    if (entry.path().filename().string().starts_with(kProbe)) probes.push_back(entry.path());
  }
  for (const fs::path& probe : probes) fs::remove(probe, ignored);
}

// "rank 1 (host b), ranks 2, 3 (host c)"
std::string describe_blind(const std::vector<std::string>& answers) {
  std::map<std::string, std::vector<size_t>> ranks_of_host;
  for (size_t rank = 0; rank < answers.size(); ++rank) {
    const json answer = json::parse(answers[rank]);
    if (answer.at("sees").get<bool>()) continue;
    ranks_of_host[answer.at("host").get<std::string>()].push_back(rank);
  }
  std::string text;
  for (const auto& [host, ranks] : ranks_of_host) {
    text += text.empty() ? "" : ", ";
    text += ranks.size() == 1 ? "rank" : "ranks";
    for (size_t i = 0; i < ranks.size(); ++i) {
      text += (i == 0 ? " " : ", ") + std::to_string(ranks[i]);
    }
    text += " (host " + host + ")";
  }
  return text;
}

}  // namespace

void require_shared_directory(Communicator& comm, const std::string& directory, double patience_s) {
  if (comm.size() == 1) return;
  const std::string probe = on_rank_0(comm, [&] {
    remove_probes(directory);  // of starts that were killed
    const std::string name = kProbe + new_nonce();
    write_durably(directory + "/" + name, "");  // the name says it all: a full disk takes it
    return name;
  });
  const bool sees = eventually(patience_s, [&] { return is_listed(directory, probe); });
  const std::vector<std::string> answers =
      gather_text(comm, json_text({{"host", host_name()}, {"sees", sees}}));
  if (comm.rank() == 0) remove_probes(directory);
  const std::string blind = describe_blind(answers);
  if (blind.empty()) return;
  throw ConfigError(
      "run.directory = \"" + directory + "\" is not one folder for all ranks: " + blind +
      " cannot see what rank 0 (host " + json::parse(answers[0]).at("host").get<std::string>() +
      ") writes there. Put run.directory on a file system that all hosts share, or "
      "set checkpoint.shared = false: then rank 0 alone writes checkpoints, to its "
      "own disk");
}

std::string wait_for_file(const std::string& path, int64_t bytes, double patience_s) {
  const fs::path file(path);
  std::string found;
  eventually(patience_s, [&] {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error && !is_listed(file.parent_path(), file.filename().string())) {
      found = "it is not there";
    } else if (error) {
      found = error.message();
    } else if (static_cast<int64_t>(size) != bytes) {
      found = "it has " + std::to_string(size) + " bytes there";
    } else {
      found.clear();
    }
    return found.empty();
  });
  return found;
}

}  // namespace espalier
