#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "launch/worker/progress.h"
#include "trainer/errors.h"
#include "trainer/inference.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

template <class Arguments>
InferenceRun load(const Arguments& arguments, const std::vector<std::string>& data = {},
                  const WorkListener& on_work = {}) {
  const CheckpointArguments& checkpoint = arguments.checkpoint;
  InferenceRun run = load_for_inference({.run = arguments.run,
                                         .checkpoint = {checkpoint.step, checkpoint.is_best},
                                         .sets = arguments.sets,
                                         .data = data,
                                         .on_work = on_work});
  std::fprintf(stderr, "using %s\n", run.checkpoint.path.c_str());
  return run;
}

struct Answer {
  std::string image, text;
};

// A line each, or a list of objects.
void print_answers(const std::vector<Answer>& answers, const char* text_key, bool as_json) {
  json all = json::array();
  for (const Answer& answer : answers) {
    all.push_back({{"image", answer.image}, {text_key, answer.text}});
    if (!as_json) std::printf("%s\t%s\n", answer.image.c_str(), answer.text.c_str());
  }
  if (as_json) std::printf("%s\n", json_text(all, 2).c_str());
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

// "red-apple.png" in the folder, or where that is taken "red-apple-0002.png" and so on.
std::string free_path(const std::string& folder, const std::string& stem) {
  std::string path = folder + "/" + stem + ".png";
  for (int number = 2; fs::exists(path); ++number) {
    std::string digits = std::to_string(number);
    digits.insert(0, digits.size() < 4 ? 4 - digits.size() : 0, '0');
    path = folder + "/" + stem + "-" + digits + ".png";
  }
  return path;
}

}  // namespace

int run_evaluate(const EvaluateArguments& arguments) {
  Progress progress(stderr);
  const InferenceRun run =
      load(arguments, arguments.data, [&](const WorkReport& report) { progress.work(report); });
  const auto evaluations = evaluate_run(run, {.stages = arguments.stages,
                                              .objectives = arguments.metrics,
                                              .directory = arguments.run + "/evaluation/by-hand"});
  progress.close();
  json result = {{"checkpoint", run.checkpoint.path}, {"step", run.checkpoint.step}};
  for (const StageEvaluation& evaluation : evaluations) {
    result["stages"][evaluation.stage] = to_json(evaluation.sections);
  }
  const std::string text = json_text(result, 2) + "\n";
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
  const auto captions = caption_images(load(arguments), images);
  std::vector<Answer> answers;
  for (size_t i = 0; i < captions.size(); ++i)
    answers.push_back({arguments.images[i], captions[i]});
  print_answers(answers, "caption", arguments.as_json);
  return kExitDone;
}

int run_draw(const DrawArguments& arguments) {
  std::vector<std::string> texts;
  for (const auto& text : arguments.texts) {
    texts.insert(texts.end(), static_cast<size_t>(arguments.copies), text);
  }
  const auto images = draw_texts(load(arguments), texts, arguments.seed);
  std::error_code error;
  fs::create_directories(arguments.out, error);
  if (error) throw ConfigError(arguments.out + " cannot be written: " + error.message());
  std::vector<Answer> answers;
  for (size_t i = 0; i < images.size(); ++i) {
    const auto copy = i % static_cast<size_t>(arguments.copies);
    std::string name = file_stem(texts[i]);
    if (arguments.copies > 1) name += "-" + std::to_string(copy + 1);
    const std::string path = free_path(arguments.out, name);
    write_png(path, contact_sheet({{images[i]}}, {arguments.zoom, 0}));
    answers.push_back({path, texts[i]});
  }
  print_answers(answers, "text", arguments.as_json);
  return kExitDone;
}

}  // namespace espalier
