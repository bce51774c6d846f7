#include <chrono>
#include <cstdio>

#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "launch/runs/comparison.h"
#include "launch/runs/run_summary.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

double unix_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

int run_runs(const std::string& directory, bool as_json) {
  const std::vector<RunSummary> runs = list_runs(directory, unix_now());
  if (as_json) {
    nlohmann::json all = nlohmann::json::array();
    for (const RunSummary& run : runs) all.push_back(to_json(run));
    std::printf("%s\n", json_text(all, 2).c_str());
  } else if (runs.empty()) {
    std::printf("no runs in %s\n", directory.c_str());
  } else {
    std::fputs(runs_table(runs).c_str(), stdout);
  }
  return kExitDone;
}

int run_compare(const CompareArguments& arguments) {
  const Comparison comparison =
      compare_runs(arguments.runs, unix_now(), [](const std::string& directory) {
        return load_run_config(directory + "/config.toml").values;
      });
  if (!arguments.html.empty()) {
    try {
      replace_durably(arguments.html, comparison_page(comparison));
    } catch (const StorageError& error) {  // a place that is not ours to write
      throw ConfigError(error.what());
    }
  }
  if (arguments.as_json) {
    std::printf("%s\n", json_text(comparison_json(comparison), 2).c_str());
  } else {
    std::fputs(comparison_text(comparison).c_str(), stdout);
  }
  if (!arguments.html.empty()) std::fprintf(stderr, "%s\n", arguments.html.c_str());
  return kExitDone;
}

}  // namespace espalier
