#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>

#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "launch/commands/commands.h"
#include "launch/commands/drawing_files.h"
#include "launch/protocol/failure_class.h"
#include "launch/worker/progress.h"
#include "trainer/errors.h"
#include "trainer/inference.h"
#include "trainer/record/json_text.h"

namespace espalier {
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

enum class AnswerForm { kLines, kList, kJsonLines };

AnswerForm form_of(const std::string& jsonl, bool as_json) {
  if (!jsonl.empty()) return AnswerForm::kJsonLines;
  return as_json ? AnswerForm::kList : AnswerForm::kLines;
}

void print_answers(const std::vector<Answer>& answers, const char* text_key, AnswerForm form) {
  json all = json::array();
  for (const Answer& answer : answers) {
    all.push_back({{"image", answer.image}, {text_key, answer.text}});
    if (form == AnswerForm::kLines) {
      std::printf("%s\t%s\n", answer.image.c_str(), answer.text.c_str());
    } else if (form == AnswerForm::kJsonLines) {
      std::printf("%s\n", json_text(all.back(), -1).c_str());
    }
  }
  if (form == AnswerForm::kList) std::printf("%s\n", json_text(all, 2).c_str());
}

// What `take` makes of every line of a JSONL file; ConfigError naming the line for which it gives
// false.
void read_jsonl(const std::string& jsonl, const char* expected,
                const std::function<bool(const json& value)>& take) {
  if (jsonl.empty()) return;
  std::ifstream file;
  if (jsonl != "-") {
    file.open(jsonl);
    if (!file) throw ConfigError("--jsonl " + jsonl + ": cannot be read");
  }
  std::istream& in = jsonl == "-" ? std::cin : file;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json value = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (value.is_object() && take(value)) continue;
    throw ConfigError(jsonl + ":" + std::to_string(number) + ": expected " + expected + ", got " +
                      line.substr(0, 60));
  }
}

std::vector<std::string> asked_images(const CaptionArguments& arguments) {
  std::vector<std::string> paths = arguments.images;
  read_jsonl(arguments.jsonl, R"({"image": "…"})", [&](const json& value) {
    if (!value.contains("image") || !value["image"].is_string()) return false;
    paths.push_back(value["image"]);
    return true;
  });
  if (paths.empty()) throw ConfigError("nothing to do: give images, or --jsonl");
  return paths;
}

// A text to draw, and the files of pictures that are shown before it.
struct AskedDrawing {
  std::string text;
  std::vector<std::string> images;
};

std::vector<AskedDrawing> asked_drawings(const DrawArguments& arguments) {
  std::vector<AskedDrawing> asked;
  for (const std::string& text : arguments.texts) asked.push_back({text, arguments.images});
  read_jsonl(arguments.jsonl, R"({"text": "…"}, or {"text": "…", "images": ["…"]})",
             [&](const json& value) {
               AskedDrawing one{.text = "", .images = arguments.images};
               if (!value.contains("text") || !value["text"].is_string()) return false;
               one.text = value["text"];
               for (const json& image : value.value("images", json::array())) {
                 if (!image.is_string()) return false;
                 one.images.push_back(image);
               }
               asked.push_back(std::move(one));
               return true;
             });
  if (asked.empty()) throw ConfigError("nothing to do: give texts, or --jsonl");
  return asked;
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
  const auto paths = asked_images(arguments);
  for (const auto& path : paths) images.push_back(read_image_file(path));
  const auto captions = caption_images(load(arguments), images);
  std::vector<Answer> answers;
  for (size_t i = 0; i < captions.size(); ++i) answers.push_back({paths[i], captions[i]});
  print_answers(answers, "caption", form_of(arguments.jsonl, arguments.as_json));
  return kExitDone;
}

int run_draw(const DrawArguments& arguments) {
  std::vector<Talk> talks;
  std::vector<std::string> texts;
  for (const AskedDrawing& asked : asked_drawings(arguments)) {
    Talk talk;
    for (const std::string& image : asked.images) talk.show(read_image_file(image));
    talk.say(asked.text);
    texts.insert(texts.end(), static_cast<size_t>(arguments.copies), asked.text);
    talks.insert(talks.end(), static_cast<size_t>(arguments.copies), talk);
  }
  const auto images = draw_after(load(arguments), talks, arguments.seed);
  make_drawing_folder(arguments.out);
  std::vector<Answer> answers;
  for (size_t i = 0; i < images.size(); ++i) {
    const auto copy = i % static_cast<size_t>(arguments.copies);
    const std::string more = arguments.copies > 1 ? "-" + std::to_string(copy + 1) : "";
    const std::string path =
        write_drawing(arguments.out, texts[i], more, images[i], arguments.zoom);
    answers.push_back({path, texts[i]});
  }
  print_answers(answers, "text", form_of(arguments.jsonl, arguments.as_json));
  return kExitDone;
}

}  // namespace espalier
