#include <cstdio>
#include <fstream>

#include <nlohmann/json.hpp>

#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "launch/protocol/tls.h"
#include "launch/report/report_page.h"
#include "launch/status/coordinator_client.h"
#include "launch/worker/progress.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"
#include "trainer/record/step_report.h"

namespace espalier {
using nlohmann::json;

namespace {

void print_status(const json& status) {
  const int64_t commit = status.value("last_commit_step", int64_t{-1});
  std::printf("%s: %s%s, generation %d, %d ranks, %d restarts, last checkpoint %s\n",
              status.value("run", std::string()).c_str(),
              status.value("state", std::string()).c_str(),
              status.value("stopping", false) ? " (stopping)" : "", status.value("generation", 0),
              status.value("world_size", 0), status.value("restarts", 0),
              commit < 0 ? "none" : ("step " + std::to_string(commit)).c_str());
  if (status.contains("progress") && status["progress"].is_object()) {
    std::printf("%s\n", format_line(step_report_from_json(status["progress"])).c_str());
  }
  std::printf("%6s %-12s %8s %8s  %-18s %10s %14s\n", "rank", "host", "pid", "step", "phase",
              "last beat", "last progress");
  for (const auto& rank : status.value("ranks", json::array())) {
    if (!rank.value("joined", false)) {
      std::printf("%6d  has not joined\n", rank.value("rank", 0));
      continue;
    }
    std::printf("%6d %-12s %8d %8lld  %-18s %8.1f s %12.1f s%s\n", rank.value("rank", 0),
                rank.value("host", std::string()).c_str(), rank.value("pid", 0),
                static_cast<long long>(rank.value("step", int64_t{-1})),
                rank.value("phase", std::string()).c_str(), rank.value("beat_age_s", -1.0),
                rank.value("progress_age_s", -1.0),
                rank.value("suspect", false) ? "  suspect" : "");
  }
}

}  // namespace

int run_status(const std::string& run, bool as_json, const std::string& token) {
  std::string text;
  try {
    text = fetch_status(run, token);
  } catch (const ConfigError& error) {
    std::ifstream file(run + "/run.json");
    const json last = json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!last.is_object()) throw;
    if (as_json) {
      std::printf("%s\n", json_text(last, 2).c_str());
    } else {
      std::printf("%s\nlast known: %s at step %lld of %lld, generation %d\n", error.what(),
                  last.value("state", std::string("unknown")).c_str(),
                  static_cast<long long>(last.value("step", int64_t{-1})),
                  static_cast<long long>(last.value("total_steps", int64_t{0})),
                  last.value("generation", 0));
    }
    return kExitDone;
  }
  const json status = json::parse(text);
  if (as_json) {
    std::printf("%s\n", json_text(status, 2).c_str());
  } else {
    print_status(status);
  }
  return kExitDone;
}

int run_stop(const std::string& run, const std::string& token) {
  request_stop(run, "espalier stop", token);
  std::printf("asked the coordinator of %s to stop with a checkpoint\n", run.c_str());
  return kExitDone;
}

int run_certificate(const std::string& folder, const std::vector<std::string>& hosts) {
  make_certificate(folder, hosts);
  std::printf(
      "%s/certificate.pem and key.pem; now: espalier launch ... --listen ADDRESS --tls %s\n",
      folder.c_str(), folder.c_str());
  return kExitDone;
}

int run_report(const std::string& run) {
  std::printf("%s\n", write_report(run).c_str());
  return kExitDone;
}

}  // namespace espalier
