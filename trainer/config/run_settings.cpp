// Names, ranges and help of the settings that every run has.
#include "trainer/config/data_settings.h"
#include "trainer/config/run_config.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr double kManySteps = 1e9;

void declare_run(Settings& s, RunConfig& c) {
  s.add("seed", c.seed,
        {.help = "Decides initial weights, order of samples and every random draw.",
         .min = 0,
         .max = 1e15,
         .also = {"random_seed", "manual_seed"}});
  s.add("run.directory", c.directory,
        {.help = "Everything the run leaves goes here; created when missing.",
         .also = {"out", "out_dir", "output", "output_dir", "save_dir", "work_dir", "run_dir",
                  "dir"}});
}

void declare_saving(Settings& s, RunConfig& c) {
  s.add("checkpoint.every_steps", c.checkpoint.every_steps,
        {.help = "Steps between checkpoints; 0 = only at the end of a stage and when stopped.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps,
         .also = {"save_steps", "save_every", "save_interval", "checkpoint_every",
                  "checkpoint_interval", "ckpt"}});
  s.add("checkpoint.keep", c.checkpoint.keep,
        {.help = "Verified checkpoints kept; older ones are removed.",
         .min = 1,
         .max = 10000,
         .also = {"save_total_limit", "keep_last", "max_checkpoints"}});
  s.add("checkpoint.best", c.checkpoint.best,
        {.help = "Number by which the best checkpoint is told and kept beside the newest ones, as "
                 "checkpoints/best: validation/total, validation/LOSS, or OBJECTIVE/METRIC of an "
                 "evaluation; empty = none."});
  s.add("checkpoint.best_mode", c.checkpoint.best_mode,
        {.help = "Whether less or more of it is better; auto = less of a loss, else as the metric "
                 "says.",
         .choices = {"auto", "min", "max"}});
  s.add("checkpoint.shared", c.checkpoint.shared,
        {.help = "true = every rank writes its part into run.directory, one folder that all hosts "
                 "see; false = rank 0 writes everything to its own disk, and sends it to the "
                 "others when the run goes on."});
  s.add("checkpoint.resume", c.checkpoint.resume,
        {.help = "auto = newest good checkpoint of the run directory; none = must start at step "
                 "0; or the path of a checkpoint or run directory.",
         .also = {"resume_from", "resume_from_checkpoint", "load"}});
  s.add("log.every_steps", c.log.every_steps,
        {.help = "Steps between lines of metrics.",
         .unit = "steps",
         .min = 1,
         .max = kManySteps,
         .also = {"log_interval", "log_every", "logging_steps", "print_freq"}});
  s.add("log.tensorboard", c.log.tensorboard,
        {.help = "Write TensorBoard event files beside metrics.jsonl.",
         .also = {"wandb", "report_to"}});
  s.add("evaluation.every_steps", c.evaluation.every_steps,
        {.help = "Steps between evaluations on the validation split; 0 = only at the end of a "
                 "stage.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps,
         .also = {"eval_steps", "eval_every", "eval_interval", "val_interval"}});
  s.add("evaluation.max_samples", c.evaluation.max_samples,
        {.help = "Samples of an evaluation during training; 0 = all. The final one uses all.",
         .unit = "samples",
         .min = 0,
         .max = 1e9});
}

void declare_interference(Settings& s, InterferenceConfig& c) {
  s.add("interference.every_steps", c.every_steps,
        {.help = "Steps between measures of how the gradients of objectives agree on the "
                 "parameters that they share; 0 = none. Weights are the same with it. Costs "
                 "memory for 2 gradients of the shared parameters per objective, and time: their "
                 "sum over ranks, and an extra backward pass for each objective where several "
                 "train on one micro-batch; interference.budget bounds it.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps});
  s.add("interference.budget", c.budget,
        {.help = "Share of the time of training that these measures may take: where one takes "
                 "more, they are spaced further apart than every_steps.",
         .min = 0.0001,
         .max = 1});
  s.add("interference.alignment_samples", c.alignment_samples,
        {.help = "Validation samples whose hidden states are compared, of images and of their "
                 "captions, at every evaluation where measures are taken; 0 = none.",
         .unit = "samples",
         .min = 0,
         .max = 4096});
  s.add("interference.neighbours", c.neighbours,
        {.help = "Nearest neighbours of a sample that are compared for it; at most the samples "
                 "less one.",
         .unit = "samples",
         .min = 1,
         .max = 1000});
}

void declare_compute(Settings& s, ComputeConfig& c) {
  s.add("compute.device", c.device,
        {.help = "auto = a GPU when there is one.",
         .choices = {"auto", "cpu", "cuda"},
         .also = {"gpu", "gpus", "cuda", "accelerator"}});
  s.add("compute.threads_per_rank", c.threads_per_rank,
        {.help = "0 = the cores of the machine divided by its ranks.",
         .unit = "threads",
         .min = 0,
         .max = 1024,
         .also = {"threads", "num_threads", "n_threads", "omp_num_threads"}});
  s.add("compute.communicator", c.communicator,
        {.help = "auto = NCCL on GPUs, MPI on CPUs and where there is no NCCL; mpi carries tensors "
                 "of GPUs through host memory.",
         .choices = {"auto", "mpi", "nccl"},
         .also = {"backend", "dist_backend", "nccl"}});
  s.add("compute.share_gpu", c.share_gpu,
        {.help = "Ranks of one machine may take the same GPU; else that is an error."});
  s.add("compute.bucket_mib", c.bucket_mib,
        {.help = "Gradients are summed over ranks in buckets of this size while backward runs; 0 = "
                 "32 over NCCL, 4 over MPI.",
         .unit = "MiB",
         .min = 0,
         .max = 1024,
         .also = {"bucket_cap_mb", "bucket_size"}});
  s.add("compute.prefetch", c.prefetch,
        {.help = "Steps whose batches are prepared ahead by the loader thread.",
         .unit = "steps",
         .min = 1,
         .max = 64,
         .also = {"workers", "num_workers", "prefetch_factor"}});
  s.add("compute.max_bad_steps", c.max_bad_steps,
        {.help = "Steps in a row with non-finite gradients before the run gives up; each is "
                 "skipped.",
         .unit = "steps",
         .min = 0,
         .max = 1000});
  s.add("compute.deterministic", c.deterministic,
        {.help = "On a GPU: the same bits in every run with as many ranks, by kernels that add in "
                 "one order; some are slower. A CPU always gives the same bits."});
  s.add(
      "compute.batch_invariant", c.batch_invariant,
      {.help = "On Intel's processors with AVX-512: a sequence has the same bits in a packed batch "
               "as alone, by products of row counts that are measured at the start."});
}

void declare_optimizer(SettingsScope s, OptimizerConfig& o) {
  s.add("learning_rate", o.learning_rate,
        {.help = "Peak of AdamW's learning rate.",
         .min = 0,
         .max = 10,
         .also = {"lr", "max_lr", "peak_lr", "base_lr"}});
  s.add("final_fraction", o.final_fraction,
        {.help = "The cosine ends at this part of the peak.",
         .min = 0,
         .max = 1,
         .also = {"min_lr", "lr_min", "eta_min", "min_lr_ratio"}});
  s.add("warmup_steps", o.warmup_steps,
        {.help = "Linear rise from zero to the peak; at most the steps of the stage.",
         .unit = "steps",
         .min = 0,
         .max = kManySteps,
         .also = {"warmup", "lr_warmup", "warmup_iters", "warmup_ratio", "num_warmup_steps"}});
  s.add("beta1", o.beta1,
        {.help = "Decay of the mean of gradients.",
         .min = 0,
         .max = 0.9999,
         .also = {"betas", "adam_beta1", "momentum"}});
  s.add("beta2", o.beta2,
        {.help = "Decay of the mean of squared gradients.",
         .min = 0,
         .max = 0.99999,
         .also = {"adam_beta2"}});
  s.add("epsilon", o.epsilon,
        {.help = "Added to the root of the second moment.",
         .min = 1e-15,
         .max = 1,
         .also = {"eps", "adam_epsilon"}});
  s.add("weight_decay", o.weight_decay,
        {.help = "Decoupled decay, on matrices only (two or more dimensions).",
         .min = 0,
         .max = 10,
         .also = {"wd", "decay"}});
  s.add("rate_factors", o.rate_factors,
        {.help = "Other learning rates by name, each PATTERN: FACTOR of the rate; the first that "
                 "fits counts: [\"trunk.*: 0.1\", \"*embedding*: 0.5\"].",
         .also = {"lr_groups", "param_groups", "lr_scale", "layer_decay"}});
  s.add("no_decay", o.no_decay,
        {.help = "Matrices without decay, by name: tables of learned vectors, of which a step "
                 "touches few."});
  s.add("clip_norm", o.clip_norm,
        {.help = "Gradients are scaled down to this global norm; 0 = never.",
         .min = 0,
         .max = 1e9,
         .also = {"clip", "clip_grad", "grad_clip", "max_grad_norm", "gradient_clipping",
                  "gradient_clip_val"}});
}

void declare_batches(SettingsScope& s, StageConfig& stage) {
  s.add("batch_size", stage.batch_size,
        {.help = "Samples per step over all ranks; a multiple of micro_batch_size x ranks.",
         .unit = "samples",
         .min = 1,
         .max = 1e7,
         .also = {"bs", "batch", "global_batch_size", "train_batch_size", "total_batch_size"}});
  s.add("micro_batch_size", stage.micro_batch_size,
        {.help = "Samples of one forward and backward.",
         .unit = "samples",
         .min = 1,
         .max = 1e6,
         .also = {"micro_batch", "per_device_train_batch_size", "local_batch_size",
                  "gradient_accumulation_steps", "grad_accum"}});
  s.add(
      "tokens_per_pass", stage.tokens_per_pass,
      {.help = "A micro-batch of more tokens is computed in several passes of at most so many, "
               "which bounds memory and changes no sum; a single longer sample is a pass of its "
               "own; 0 = always in one.",
       .unit = "tokens",
       .min = 0,
       .max = 1e9,
       .also = {"token_budget", "max_tokens_per_batch", "expected_num_tokens", "max_num_tokens"}});
}

void declare_stage(SettingsScope s, StageConfig& stage) {
  s.add("trains", stage.trains,
        {.help = "Name of the model whose weights the stage updates.", .also = {"model"}});
  s.add("freeze", stage.freeze,
        {.help = "Parameters of that model, or of an objective's own, that stay as they are, by "
                 "pattern: trunk.*, masked_patches.*. Codebooks are no parameters.",
         .also = {"frozen"}});
  s.add(
      "freeze_schedule", stage.freeze_schedule,
      {.help = "The same for some steps of the stage, each PATTERN: FROM-TO, so that others train "
               "before or after: [\"trunk.*: 0-200\", \"branch.generation.*: 500-\"].",
       .also = {"unfreeze", "unfreeze_at"}});
  s.add("steps", stage.steps,
        {.help = "Updates of the weights.",
         .unit = "steps",
         .min = 1,
         .max = kManySteps,
         .also = {"epochs", "epoch", "num_epochs", "num_train_epochs", "max_steps", "iterations",
                  "iters", "max_iters", "train_steps", "total_steps"}});
  declare_batches(s, stage);
  s.add("precision", stage.precision,
        {.help = "bf16 = matrix products in bfloat16, weights and sums in fp32; auto = bf16 where "
                 "the device multiplies it faster than fp32.",
         .choices = {"auto", "fp32", "bf16"},
         .also = {"dtype", "fp16", "bf16", "amp", "half", "mixed_precision", "autocast"}});
  s.add("ema_decay", stage.ema_decay,
        {.help = "Decay of the averaged weights used for evaluation and as the stage's result; 0 "
                 "= no averaging.",
         .min = 0,
         .max = 0.999999,
         .also = {"ema", "use_ema"}});
  s.add("early_stop_patience", stage.early_stop_patience,
        {.help = "The stage ends after so many evaluations in a row without a better "
                 "checkpoint.best (validation/total where that is empty); 0 = never early.",
         .unit = "evaluations",
         .min = 0,
         .max = 1e6});
  declare_optimizer(s.below("optimizer"), stage.optimizer);
  for (ObjectiveConfig& objective : stage.objectives) {
    SettingsScope scope = s.below("objectives").below(objective.name);
    scope.add("kind", objective.kind,
              {.help = "What is learned: " + registry().names_of_objectives() + ".",
               .choices = {objective.kind}});
    scope.add("share", objective.share,
              {.help = "Share of the micro-batches it gets, relative to the shares of the others; "
                       "0 = it takes part in every micro-batch.",
               .min = 0,
               .max = 1e6,
               .also = {"mix", "mixture", "sampling_weight"}});
    objective.settings->declare(scope);
  }
}

}  // namespace

Settings declare_settings(RunConfig& config) {
  Settings settings;
  declare_run(settings, config);
  declare_data_settings(settings, config);
  for (ModelConfig& c : config.models) {
    SettingsScope scope(settings, "model." + c.name + ".");
    scope.add("kind", c.kind, {.help = "What is built.", .choices = {c.kind}});
    c.settings->declare(scope);
  }
  declare_saving(settings, config);
  declare_interference(settings, config.interference);
  declare_compute(settings, config.compute);
  declare_deadline_settings(settings, config.deadline);
  for (StageConfig& stage : config.stages) {
    declare_stage({settings, "stage." + stage.name + "."}, stage);
  }
  return settings;
}

}  // namespace espalier
