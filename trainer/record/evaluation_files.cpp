#include "trainer/record/evaluation_files.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include <nlohmann/json.hpp>

#include "data/errors.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/record/json_text.h"
#include "trainer/record/run_directory.h"

namespace espalier {

std::string evaluation_path(const std::string& run_directory, const std::string& stage) {
  return RunDirectory::evaluation(run_directory) + "/" + stage + ".json";
}

void write_evaluation(const std::string& run_directory, const std::string& stage, int64_t step,
                      int64_t global_step, const std::vector<Section>& sections) {
  const nlohmann::json result = {{"stage", stage},
                                 {"step", step},
                                 {"global_step", global_step},
                                 {"sections", to_json(sections)}};
  try {
    replace_durably(evaluation_path(run_directory, stage), json_text(result, 2) + "\n");
  } catch (const std::runtime_error& error) {
    spdlog::warn("{}; the next start evaluates the stage again", error.what());
  }
}

void forget_evaluation(const std::string& run_directory, const std::string& stage) {
  std::error_code ignored;
  std::filesystem::remove(evaluation_path(run_directory, stage), ignored);
}

void save_picture(const std::string& path, const Image& image) {
  try {
    write_png(path, image);
  } catch (const DataError& error) {
    spdlog::warn("{}; the run goes on without the picture", error.what());
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
}

std::string picture_prefix(const std::string& stage, int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 7 ? 7 - digits.size() : 0, '0');
  return stage + "-" + digits + "-";
}

}  // namespace espalier
