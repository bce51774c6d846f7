#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <ATen/Parallel.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "launch/commands/commands.h"
#include "launch/protocol/failure.h"
#include "trainer/errors.h"
#include "trainer/inference.h"
#include "trainer/unified_stage.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

UnifiedStage& unified_stage(const InferenceRun& run) {
  auto* stage = dynamic_cast<UnifiedStage*>(&run.stage_of_kind("unified"));
  if (stage == nullptr) throw ConfigError(run.checkpoint + " holds no unified model");
  return *stage;
}

InferenceRun load(const std::string& run_directory, const std::vector<std::string>& sets) {
  InferenceRun run = load_for_inference(run_directory, sets);
  const int64_t threads = run.config->compute.threads_per_rank;
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
  std::fprintf(stderr, "using %s\n", run.checkpoint.c_str());
  return run;
}

// "red apple!" -> "red-apple"
std::string file_stem(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "drawing" : out.substr(0, 80);
}

}  // namespace

int run_evaluate(const EvaluateArguments& arguments) {
  const InferenceRun run = load(arguments.run, arguments.sets);
  EvaluationRequest request;
  request.directory = arguments.run + "/evaluation/by-hand";
  request.step = run.global_step;
  request.data = arguments.data;
  json result = evaluate_run(run, request);
  result["checkpoint"] = run.checkpoint;
  result["data"] = arguments.data.empty() ? run.config->data.test : arguments.data;
  const std::string text = result.dump(2) + "\n";
  if (arguments.json_path.empty()) {
    std::fputs(text.c_str(), stdout);
    return kExitDone;
  }
  std::ofstream file(arguments.json_path, std::ios::trunc);
  file << text << std::flush;
  if (!file) throw ConfigError(arguments.json_path + " cannot be written");
  return kExitDone;
}

int run_caption(const CaptionArguments& arguments) {
  std::vector<Image> images;
  for (const auto& path : arguments.images) images.push_back(read_image_file(path));
  const InferenceRun run = load(arguments.run, arguments.sets);
  const auto captions = unified_stage(run).caption(images);
  for (size_t i = 0; i < captions.size(); ++i) {
    std::printf("%s\t%s\n", arguments.images[i].c_str(), captions[i].c_str());
  }
  return kExitDone;
}

int run_draw(const DrawArguments& arguments) {
  const InferenceRun run = load(arguments.run, arguments.sets);
  UnifiedStage& stage = unified_stage(run);
  std::vector<std::string> texts;
  for (const auto& text : arguments.texts) {
    texts.insert(texts.end(), static_cast<size_t>(arguments.copies), text);
  }
  const auto images = stage.draw(texts, stage.default_sampling(), arguments.seed);
  std::error_code error;
  fs::create_directories(arguments.out, error);
  if (error) throw ConfigError(arguments.out + " cannot be written: " + error.message());
  for (size_t i = 0; i < images.size(); ++i) {
    const auto copy = i % static_cast<size_t>(arguments.copies);
    std::string name = file_stem(texts[i]);
    if (arguments.copies > 1) name += "-" + std::to_string(copy + 1);
    const std::string path = arguments.out + "/" + name + ".png";
    write_png(path, contact_sheet({{images[i]}}, {arguments.zoom, 0}));
    std::printf("%s\t%s\n", path.c_str(), texts[i].c_str());
  }
  return kExitDone;
}

}  // namespace espalier
