#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"
#include "trainer/forward/forward_check.h"

namespace espalier {
namespace {

// Model types that read the same are one entry, and each input begins a line.
std::string inputs_of_model_types() {
  std::string text = "What --inputs has, by the model_type in config.json:", last;
  for (const ForwardModelType& type : forward_model_types()) {
    if (type.inputs == last) {
      text.insert(text.rfind(":\n"), ", " + type.name);
      continue;
    }
    last = type.inputs;
    std::string lines = type.inputs;
    for (size_t at = 0; (at = lines.find("; ", at)) != std::string::npos;) {
      lines.replace(at, 2, "\n    ");
    }
    text += "\n  " + type.name + ":\n    " + lines;
  }
  return text;
}

void declare_forward(CLI::App& app, Command& chosen) {
  auto forward = std::make_shared<ForwardArguments>();
  auto* command = app.add_subcommand(
      "forward",
      "One pass of the model in a Hugging Face folder or an export, to compare with others");
  command->footer(inputs_of_model_types());
  command->add_option("MODEL_DIR", forward->folder, "Folder with config.json and safetensors")
      ->required();
  command->add_option("--inputs", forward->inputs, "Safetensors: input_ids, labels and others")
      ->required();
  command
      ->add_option("--outputs", forward->outputs, "Safetensors to write: logits, loss and others")
      ->required();
  command->add_flag("--backward", forward->backward, "Gradients of the loss too: grad.PARAMETER");
  command->add_flag("--train", forward->train, "As in training, not as in evaluation");
  command->add_flag("--hidden-states", forward->hidden_states,
                    "Hidden states at every depth too: hidden_states.K");
  command->add_option("--dtype", forward->dtype, "Type of the products")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--device", forward->device, "Where it runs")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->callback([&chosen, forward] { chosen = [=] { return run_forward_check(*forward); }; });
}

}  // namespace

void declare_data_and_config(CLI::App& app, Command& chosen) {
  auto inspect = std::make_shared<InspectArguments>();
  auto* data = app.add_subcommand("data", "Look at data");
  data->require_subcommand(1);
  auto* command = data->add_subcommand("inspect", "Count and measure samples");
  command
      ->add_option("INPUT", inspect->inputs,
                   "A config, shards, or an index.json of episodes or its folder")
      ->required();
  command->add_option("--sheet", inspect->sheet, "Write a contact sheet of the first split (PNG)");
  command->add_flag("--skip-bad", inspect->skip_bad_samples, "Count bad samples, do not fail");
  command->add_flag("--json", inspect->as_json, "As JSON");
  command->callback([&chosen, inspect] { chosen = [=] { return run_data_inspect(*inspect); }; });

  auto mask = std::make_shared<MaskArguments>();
  command =
      app.add_subcommand("mask", "Who sees whom under an attention mask: counts, picture, matrix");
  command->add_option("SPEC", mask->spec, "Mask file, for example configs/masks/dreamvla.toml")
      ->required();
  command->add_option("--set", mask->sets, "Override a setting of the file: timesteps=2")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--out", mask->out, "FILE.png: a picture; FILE.safetensors: the matrix");
  command->callback([&chosen, mask] { chosen = [=] { return run_mask(*mask); }; });

  declare_forward(app, chosen);

  auto key = std::make_shared<std::string>();
  auto markdown = std::make_shared<bool>(false);
  auto* config = app.add_subcommand("config", "About settings");
  config->require_subcommand(1);
  command = config->add_subcommand("explain", "What settings there are, or what one does");
  command->add_option("KEY", *key, "For example checkpoint.every_steps");
  command->add_flag("--markdown", *markdown, "The whole reference page");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "As JSON");
  command->callback([&chosen, key, markdown, as_json] {
    chosen = [=] { return run_config_explain(*key, *markdown, *as_json); };
  });

  command = app.add_subcommand("doctor", "What this machine and build have, and what will be used");
  command->add_flag("--json", *as_json, "As JSON");
  command->callback([&chosen, as_json] { chosen = [=] { return run_doctor(*as_json); }; });
}

}  // namespace espalier
