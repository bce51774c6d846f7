#include "trainer/record/run_state.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/record/json_text.h"

namespace espalier {

nlohmann::json read_run_state(const std::string& run_directory) {
  const std::string path = run_directory + "/run.json";
  if (!std::filesystem::exists(path)) return nlohmann::json::object();
  const auto state =
      nlohmann::json::parse(read_text_file(path), nullptr, /*allow_exceptions=*/false);
  return state.is_object() ? state : nlohmann::json::object();
}

void write_run_state(const std::string& run_directory, const nlohmann::json& state) {
  try {
    replace_durably(run_directory + "/run.json", json_text(state, 2) + "\n");
  } catch (const std::runtime_error& error) {
    spdlog::warn("{}; run.json stays as it was, and the run goes on", error.what());
  }
}

}  // namespace espalier
