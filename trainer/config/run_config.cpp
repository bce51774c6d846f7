#include "trainer/config/run_config.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <toml++/toml.h>

#include "trainer/config/config_text.h"
#include "trainer/config/toml_json.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr double kManySteps = 1e9;

void declare_run(Settings& s, RunConfig& c) {
  s.add("seed", c.seed,
        {.help = "Decides initial weights, order of samples and every random draw.",
         .min = 0,
         .max = 1e15});
  s.add("run.directory", c.directory,
        {.help = "Everything the run leaves goes here; created when missing."});
  s.add("data.train", c.data.train,
        {.help = "WebDataset tars to train on, relative to the working directory."});
  s.add("data.validation", c.data.validation, {.help = "Tars watched while training."});
  s.add("data.test", c.data.test, {.help = "Held-out tars for the report."});
  s.add("data.image_size", c.data.image_size,
        {.help = "Side of the square training images.", .unit = "pixels", .min = 8, .max = 1024});
  s.add("data.on_bad_sample", c.data.on_bad_sample,
        {.help = "A sample that cannot be read stops the run, or is counted, named and skipped.",
         .choices = {"fail", "skip"}});
  s.add("text.vocabulary_size", c.text.vocabulary_size,
        {.help = "Entries of the byte-level BPE trained on the captions.",
         .unit = "tokens",
         .min = 300,
         .max = 1e6});
  s.add("teacher.weights", c.teacher.weights,
        {.help = "Safetensors of the frozen EfficientNet-Lite0; empty = no teacher."});
  s.add("teacher.image_size", c.teacher.image_size,
        {.help = "Images are resized to this side for the teacher.",
         .unit = "pixels",
         .min = 32,
         .max = 1024});
  s.add("teacher.cache", c.teacher.cache,
        {.help = "Folder that keeps the teacher's features; empty = inside the run directory."});
}

void declare_loop(Settings& s, RunConfig& c) {
  s.add("checkpoint.every_steps", c.checkpoint.every_steps,
        {.help = "Steps between checkpoints; 0 = only at the end of a stage and when stopped.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps});
  s.add("checkpoint.keep", c.checkpoint.keep,
        {.help = "Verified checkpoints kept; older ones are removed.", .min = 1, .max = 10000});
  s.add("checkpoint.resume", c.checkpoint.resume,
        {.help = "auto = newest good checkpoint of the run directory; none = must start at step "
                 "0; or the path of a checkpoint or run directory."});
  s.add("log.every_steps", c.log.every_steps,
        {.help = "Steps between lines of metrics.", .unit = "steps", .min = 1, .max = kManySteps});
  s.add("log.tensorboard", c.log.tensorboard,
        {.help = "Write TensorBoard event files beside metrics.jsonl."});
  s.add("evaluation.every_steps", c.evaluation.every_steps,
        {.help = "Steps between evaluations with sampled pictures; 0 = only at the end of a stage.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps});
  s.add("evaluation.max_samples", c.evaluation.max_samples,
        {.help = "Samples of an evaluation during training; 0 = all. The final one uses all.",
         .unit = "samples",
         .min = 0,
         .max = 1e9});
  s.add("compute.device", c.compute.device,
        {.help = "auto = a GPU when there is one.", .choices = {"auto", "cpu", "cuda"}});
  s.add("compute.threads_per_rank", c.compute.threads_per_rank,
        {.help = "0 = the cores of the machine divided by its ranks.",
         .unit = "threads",
         .min = 0,
         .max = 1024});
  s.add("compute.communicator", c.compute.communicator,
        {.help = "auto = NCCL on GPUs, MPI on CPUs.", .choices = {"auto", "mpi", "nccl"}});
  s.add("compute.bucket_kib", c.compute.bucket_kib,
        {.help = "Gradients are summed over ranks in buckets of this size while backward runs.",
         .unit = "KiB",
         .min = 1,
         .max = 1048576});
  s.add("compute.prefetch", c.compute.prefetch,
        {.help = "Micro-batches prepared ahead by the loader thread.", .min = 1, .max = 64});
  s.add("compute.max_bad_steps", c.compute.max_bad_steps,
        {.help = "Steps in a row with non-finite gradients before the run gives up; each is "
                 "skipped.",
         .unit = "steps",
         .min = 0,
         .max = 1000});
}

void declare_optimizer(Settings& s, const std::string& prefix, OptimizerConfig& o) {
  s.add(prefix + "learning_rate", o.learning_rate,
        {.help = "Peak of AdamW's learning rate.", .min = 0, .max = 10});
  s.add(prefix + "final_fraction", o.final_fraction,
        {.help = "The cosine ends at this part of the peak.", .min = 0, .max = 1});
  s.add(prefix + "warmup_steps", o.warmup_steps,
        {.help = "Linear rise from zero to the peak; at most the steps of the stage.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps});
  s.add(prefix + "beta1", o.beta1,
        {.help = "Decay of the mean of gradients.", .min = 0, .max = 0.9999});
  s.add(prefix + "beta2", o.beta2,
        {.help = "Decay of the mean of squared gradients.", .min = 0, .max = 0.99999});
  s.add(prefix + "epsilon", o.epsilon,
        {.help = "Added to the root of the second moment.", .min = 1e-15, .max = 1});
  s.add(
      prefix + "weight_decay", o.weight_decay,
      {.help = "Decoupled decay, on matrices only (two or more dimensions).", .min = 0, .max = 10});
  s.add(
      prefix + "clip_norm", o.clip_norm,
      {.help = "Gradients are scaled down to this global norm; 0 = never.", .min = 0, .max = 1e9});
}

void declare_stage(Settings& s, StageConfig& stage) {
  const std::string prefix = "stage." + stage.name + ".";
  s.add(prefix + "kind", stage.kind,
        {.help = "What the stage trains.", .choices = {"tokenizer", "unified"}});
  s.add(prefix + "steps", stage.steps,
        {.help = "Updates of the weights.", .unit = "steps", .min = 1, .max = kManySteps});
  s.add(prefix + "batch_size", stage.batch_size,
        {.help = "Samples per step over all ranks; a multiple of micro_batch_size x ranks.",
         .unit = "samples",
         .min = 1,
         .max = 1e7});
  s.add(prefix + "micro_batch_size", stage.micro_batch_size,
        {.help = "Samples of one forward and backward.", .unit = "samples", .min = 1, .max = 1e6});
  s.add(prefix + "precision", stage.precision,
        {.help = "bf16 = matrix products in bfloat16, weights and sums in fp32.",
         .choices = {"fp32", "bf16"}});
  s.add(prefix + "ema_decay", stage.ema_decay,
        {.help = "Decay of the averaged weights used for evaluation and as the stage's result; 0 "
                 "= no averaging.",
         .min = 0,
         .max = 0.999999});
  declare_optimizer(s, prefix + "optimizer.", stage.optimizer);
  for (auto& [name, weight] : stage.loss) {
    s.add(prefix + "loss." + name, weight,
          {.help = "Weight of the " + name + " loss.", .min = 0, .max = 1e6});
  }
  for (auto& [name, weight] : stage.tasks) {
    s.add(prefix + "tasks." + name, weight,
          {.help = "Share of micro-batches that go to " + name + ".", .min = 0, .max = 1e6});
  }
}

std::string at_line(const std::string& file, const toml::node& node) {
  return file + ":" + std::to_string(node.source().begin.line);
}

// The stages must be known before their settings can be declared.
std::vector<StageConfig> find_stages(const toml::table& table, const std::string& file) {
  std::vector<StageConfig> stages;
  const toml::node* node = table.get("stage");
  if (node == nullptr) return stages;
  if (!node->is_array_of_tables()) {
    throw ConfigError(at_line(file, *node) + ": stages are written as [[stage]], one per stage");
  }
  for (const auto& item : *node->as_array()) {
    const toml::table& entry = *item.as_table();
    const auto name = entry["name"].value_exact<std::string>();
    const auto kind = entry["kind"].value_exact<std::string>();
    if (!name || name->empty() || name->find_first_of(".*/ ") != std::string::npos) {
      throw ConfigError(
          at_line(file, item) +
          ": a [[stage]] needs a name, a word without dots, e.g. name = \"tokenizer\"");
    }
    const bool is_tokenizer = kind == "tokenizer";
    if (!is_tokenizer && kind != "unified") {
      throw ConfigError(at_line(file, entry.contains("kind") ? *entry.get("kind") : item) +
                        ": stage " + *name + " needs kind = \"tokenizer\" or \"unified\"" +
                        (kind ? ", got \"" + *kind + "\"" : ""));
    }
    if (std::any_of(stages.begin(), stages.end(), [&](auto& s) { return s.name == *name; })) {
      throw ConfigError(at_line(file, item) + ": there are two stages with the name " + *name);
    }
    StageConfig& stage = stages.emplace_back();
    stage.name = *name;
    stage.kind = *kind;
    stage.loss = is_tokenizer ? tokenizer_losses() : unified_losses();
    stage.tasks = is_tokenizer ? tokenizer_tasks() : unified_tasks();
  }
  return stages;
}

void apply_table(Settings& settings, const toml::table& table, const std::string& prefix,
                 const std::string& file) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    if (key == "stage" && node.is_array_of_tables()) {
      for (const auto& item : *node.as_array()) {
        const toml::table& entry = *item.as_table();
        apply_table(settings, entry, "stage." + *entry["name"].value<std::string>() + ".", file);
      }
    } else if (prefix.starts_with("stage.") && key == prefix + "name" &&
               std::count(prefix.begin(), prefix.end(), '.') == 2) {
      continue;  // it is in every key of the stage
    } else if (node.is_table() && settings.find(key) == nullptr) {
      apply_table(settings, *node.as_table(), key + ".", file);
    } else {
      settings.set(key, json_from_toml(node), at_line(file, node));
    }
  }
}

void validate(const RunConfig& config, const std::string& file) {
  if (config.stages.empty()) {
    throw ConfigError(file + ": nothing to train: add a [[stage]] with name and kind");
  }
  validate_deadlines(config.deadline, file);
  bool has_tokenizer = false;
  for (const StageConfig& stage : config.stages) {
    if (stage.kind == "unified" && !has_tokenizer) {
      throw ConfigError(file + ": stage " + stage.name +
                        " works on image codes: put a stage of kind tokenizer before it");
    }
    has_tokenizer = has_tokenizer || stage.kind == "tokenizer";
  }
}

}  // namespace

Settings declare_settings(RunConfig& config) {
  Settings settings;
  declare_run(settings, config);
  declare_tokenizer_settings(settings, config.tokenizer);
  declare_unified_settings(settings, config.model);
  declare_loop(settings, config);
  declare_deadline_settings(settings, config.deadline);
  for (StageConfig& stage : config.stages) declare_stage(settings, stage);
  return settings;
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets) {
  std::ifstream file(path);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw ConfigError("config " + path + ": no such file, or it cannot be read, or it is empty");
  }
  toml::table table;
  try {
    table = toml::parse(text.str());
  } catch (const toml::parse_error& error) {
    throw ConfigError(path + ":" + std::to_string(error.source().begin.line) +
                      ": not TOML: " + std::string(error.description()));
  }
  RunConfig config;
  config.stages = find_stages(table, path);
  Settings settings = declare_settings(config);
  apply_table(settings, table, "", path);
  for (const std::string& argument : sets) settings.set_from_argument(argument);
  validate(config, path);
  config.resolved = resolved_toml(settings, config);
  for (const Setting& setting : settings.all()) config.values[setting.key] = setting.value;
  return config;
}

void validate_for_world(const RunConfig& config, int world_size) {
  for (const StageConfig& stage : config.stages) {
    const int64_t unit = stage.micro_batch_size * world_size;
    if (stage.batch_size % unit == 0) continue;
    const int64_t below = stage.batch_size / unit * unit;
    const std::string nearest =
        (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(below + unit);
    throw ConfigError(
        "stage." + stage.name + ".batch_size = " + std::to_string(stage.batch_size) +
        " does not divide by micro_batch_size x ranks = " + std::to_string(stage.micro_batch_size) +
        " x " + std::to_string(world_size) + "; nearest right sizes: " + nearest);
  }
}

}  // namespace espalier
