#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "launch/commands/checkpoint_options.h"
#include "launch/commands/commands.h"
#include "launch/commands/declare.h"

namespace espalier {
namespace {

void declare_chat(CLI::App& app, Command& chosen) {
  auto chat = std::make_shared<ChatArguments>();
  auto* command =
      app.add_subcommand("chat", "Talk to a run: show pictures, ask about them, have it draw");
  command->add_option("RUN", chat->run, "Run directory")->required();
  add_checkpoint_options(command, &chat->checkpoint);
  command->add_option("--out", chat->out, "Folder for drawings")->capture_default_str();
  command->add_option("--seed", chat->seed, "Random seed of the first drawing")
      ->capture_default_str();
  command->add_option("--zoom", chat->zoom, "Enlarge every pixel of a drawing")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--set", chat->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, chat] { chosen = [=] { return run_chat(*chat); }; });
}

void declare_draw(CLI::App& app, Command& chosen) {
  auto draw = std::make_shared<DrawArguments>();
  auto* command =
      app.add_subcommand("draw", "Draw images from texts, and from pictures where learned");
  command->add_option("TEXT", draw->texts, "What to draw");
  command
      ->add_option("--image", draw->images, "A picture that is shown before the text; repeatable")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--jsonl", draw->jsonl,
                      "File with a line {\"text\": TEXT, \"images\": [FILE]} for each, pictures "
                      "where wanted (- = standard input); answers are such lines");
  command->add_option("--run", draw->run, "Run directory")->required();
  add_checkpoint_options(command, &draw->checkpoint);
  command
      ->add_option("--out", draw->out,
                   "Folder for the PNG files; files that are there already are left alone")
      ->capture_default_str();
  command->add_option("--seed", draw->seed, "Random seed")->capture_default_str();
  command->add_option("--copies", draw->copies, "Drawings of each text")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--zoom", draw->zoom, "Enlarge every pixel")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--set", draw->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--json", draw->as_json, "As JSON");
  command->callback([&chosen, draw] { chosen = [=] { return run_draw(*draw); }; });
}

}  // namespace

void declare_inference_commands(CLI::App& app, Command& chosen) {
  auto evaluate = std::make_shared<EvaluateArguments>();
  auto* command = app.add_subcommand("evaluate", "Measure a run's newest checkpoint, or another");
  command->add_option("RUN", evaluate->run, "Run directory")->required();
  add_checkpoint_options(command, &evaluate->checkpoint);
  command->add_option("--data", evaluate->data, "Shards; default: the run's own test split");
  command->add_option("--stage", evaluate->stages,
                      "Stages, by name; default: the last that trained each model");
  command->add_option("--metrics", evaluate->metrics,
                      "Only those of these objectives, by name; default: all");
  command->add_option("--json", evaluate->json_path, "Write the numbers to this file");
  command->add_option("--set", evaluate->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, evaluate] { chosen = [=] { return run_evaluate(*evaluate); }; });

  declare_chat(app, chosen);

  auto caption = std::make_shared<CaptionArguments>();
  command = app.add_subcommand("caption", "Name what is in images");
  command->add_option("IMAGE", caption->images, "PNG, JPEG or WebP files");
  command->add_option("--jsonl", caption->jsonl,
                      "File with a line {\"image\": PATH} for each (- = standard input); answers "
                      "are such lines");
  command->add_option("--run", caption->run, "Run directory")->required();
  add_checkpoint_options(command, &caption->checkpoint);
  command->add_option("--set", caption->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--json", caption->as_json, "As JSON");
  command->callback([&chosen, caption] { chosen = [=] { return run_caption(*caption); }; });

  declare_draw(app, chosen);
}

}  // namespace espalier
