#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

// The subcommands of `espalier`, one function each; the returned value is the exit code. Errors are
// exceptions, mapped in main.cpp.

struct TrainArguments {
  std::string config;
  std::vector<std::string> sets;
  std::string resume;     // "", "auto", "none" or a checkpoint
  bool extends = false;   // the run goes on with more steps or stages
  std::string fork_from;  // "RUN" or "RUN@STEP": begin with its weights
  bool dry_run = false;
  std::vector<std::string> all_sets() const;  // with --resume as a setting
};
int run_train(const TrainArguments& arguments);

struct LaunchArguments {
  TrainArguments train;
  int ranks = 0;  // 0: as many tasks as the Slurm allocation has; 1 outside of one
  std::string launcher = "auto";
  std::vector<std::string> launcher_arguments;
  // Several hosts.
  std::string hosts;  // a file
  int min_ranks = 0;  // 0: all of them
  std::string listen = "127.0.0.1";
  std::string tls;  // a folder that `espalier certificate` made
  std::string agent = "ssh";
  std::string network;
  double stop_before_limit = 60;
  bool requeue = false;  // neither: where Slurm lets the job be requeued
  bool no_requeue = false;
};
int run_launch(const LaunchArguments& arguments);

// `token`: a file; "" = the run's own.
int run_status(const std::string& run, bool as_json, const std::string& token);
int run_stop(const std::string& run, const std::string& token);
int run_certificate(const std::string& folder, const std::vector<std::string>& hosts);
// Until the run is over or a signal comes.
int run_watch(const std::string& run, double period_s, const std::string& token);

struct LogsArguments {
  std::string run;
  int generation = 0;  // 0: the newest
  int rank = -1;       // -1: all
  int lines = 40;
  bool follow = false;
};
int run_logs(const LogsArguments& arguments);
int run_report(const std::string& run);

struct DiagnoseArguments {
  std::string run;
  std::string html;  // a file; "" = RUN/diagnosis.html
  bool as_json = false;
};
int run_diagnose(const DiagnoseArguments& arguments);

// Which checkpoint: of a step, the best, or (neither) the newest.
struct CheckpointArguments {
  int64_t step = -1;
  bool is_best = false;
};

struct ExportArguments {
  std::string run;
  CheckpointArguments checkpoint;
  bool averages = false, raw = false;  // neither: averages where there are any
  std::string max_shard_size = "4GB";
  std::string
      decoder;  // a text branch to write as an ordinary decoder; "" = all models as they are
  std::string to;
};
int run_checkpoint_export(const ExportArguments& arguments);

int run_runs(const std::string& directory, bool as_json);

struct CompareArguments {
  std::vector<std::string> runs;
  std::string html;  // a file; "" = none
  bool as_json = false;
};
int run_compare(const CompareArguments& arguments);

struct EvaluateArguments {
  std::string run;
  CheckpointArguments checkpoint;
  std::vector<std::string> data;
  std::vector<std::string> stages;   // empty = the last that trained each model
  std::vector<std::string> metrics;  // of these objectives; empty = all
  std::vector<std::string> sets;
  std::string json_path;
};
int run_evaluate(const EvaluateArguments& arguments);

struct CaptionArguments {
  std::string run;
  CheckpointArguments checkpoint;
  std::vector<std::string> images;
  std::string jsonl;  // a file of {"image": PATH}, "-" = standard input; "" = none
  std::vector<std::string> sets;
  bool as_json = false;
};
int run_caption(const CaptionArguments& arguments);

struct DrawArguments {
  std::string run;
  CheckpointArguments checkpoint;
  std::vector<std::string> texts;
  std::vector<std::string> images;  // shown before each text
  // A file of {"text": TEXT}, with "images": [FILE, ..] too; "-" = standard input; "" = none.
  std::string jsonl;
  std::vector<std::string> sets;
  std::string out = ".";
  uint64_t seed = 1;
  int copies = 1;
  int zoom = 4;
  bool as_json = false;
};
int run_draw(const DrawArguments& arguments);

struct ChatArguments {
  std::string run;
  CheckpointArguments checkpoint;
  std::vector<std::string> sets;
  std::string out = ".";
  uint64_t seed = 1;
  int zoom = 4;
};
int run_chat(const ChatArguments& arguments);

struct ForwardArguments {
  std::string folder;           // of Hugging Face, or an export
  std::string inputs, outputs;  // safetensors
  bool backward = false, train = false, hidden_states = false;
  std::string dtype = "float32";
  std::string device = "cpu";
};
int run_forward_check(const ForwardArguments& arguments);

struct InspectArguments {
  std::vector<std::string> inputs;  // one config, one episode data set, or shards
  std::string sheet;
  bool skip_bad_samples = false;
  bool as_json = false;
};
int run_data_inspect(const InspectArguments& arguments);

struct MaskArguments {
  std::string spec;
  std::vector<std::string> sets;
  std::string out;  // .png or .safetensors; "" = none
};
int run_mask(const MaskArguments& arguments);

int run_config_explain(const std::string& key, bool markdown, bool as_json);
int run_doctor(bool as_json);

// "espalier 0.1.0 (commit 0123456789ab, LibTorch 2.11.0)"
std::string program_version();

}  // namespace espalier
