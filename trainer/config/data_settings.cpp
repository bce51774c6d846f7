#include "trainer/config/data_settings.h"

namespace espalier {
namespace {

void declare_data(SettingsScope s, DataConfig& c) {
  s.add(
      "train", c.train,
      {.help = "What to train on: .tar, .tar.gz, folders, .csv, .tsv, .jsonl, .json, .parquet, or "
               "patterns of them (*, {a,b}, {000..012}), relative to the working directory.",
       .also = {"dataset", "data", "data_path", "train_data", "train_files", "shards"}});
  s.add("validation", c.validation,
        {.help = "Held out, and measured while the run trains.",
         .also = {"val", "valid", "dev", "validation_files"}});
  s.add("test", c.test,
        {.help = "Held out, and measured once, when a stage ends.", .also = {"test_files"}});
  s.add("image_size", c.image_size,
        {.help = "Side of the square images; 0 = that of the model that reads them.",
         .unit = "pixels",
         .min = 0,
         .max = 1024,
         .also = {"resolution", "img_size", "size"}});
  s.add("rename", c.rename,
        {.help = "Fields under other names, each FROM=TO: [\"label=caption\"]."});
  s.add("image_root", c.image_root,
        {.help = "Where the names of pictures in a table begin; empty = beside the table."});
  s.add("image_field", c.image_field,
        {.help = "Column of a table that names or holds the picture; empty = image, file_name, "
                 "image_path, images, filepath, path, filename or img."});
  s.add("fit", c.fit,
        {.help = "Of a picture that is not square: all of it, white beside it; its middle; or all "
                 "of it out of proportion.",
         .choices = {"pad", "crop", "stretch"},
         .also = {"resize_mode", "image_aspect_ratio", "center_crop"}});
  s.add("check", c.check,
        {.help = "What is done with each picture when data are first seen: decode it, or read its "
                 "header; auto = decode where a source is under 512 MiB.",
         .choices = {"auto", "decode", "headers"}});
  s.add("cache", c.cache,
        {.help = "Folder that keeps indices, and tars unpacked of what has no random access; empty "
                 "= ~/.cache/espalier."});
  s.add("memory_mib", c.memory_mib,
        {.help = "Pictures of a split are kept in memory up to this; larger training splits are "
                 "read from disk as they are needed, of larger held-out ones a part is measured.",
         .unit = "MiB",
         .min = 1,
         .max = 1e7});
  s.add("shuffle_window", c.shuffle_window,
        {.help = "Shuffle inside windows of this many samples, which are visited in random order: "
                 "reads stay near each other; 0 = over the whole split.",
         .unit = "samples",
         .min = 0,
         .max = 1e12});
  s.add("on_bad_sample", c.on_bad_sample,
        {.help = "A sample that cannot be read stops the run, or is counted, named and skipped.",
         .choices = {"fail", "skip"}});
}

void declare_text(SettingsScope s, TextConfig& c) {
  s.add("file", c.file,
        {.help = "A tokenizer to use as it is, instead of learning one: a Hugging Face "
                 "tokenizer.json (byte-level BPE), a SentencePiece .model, or a folder that holds "
                 "one; relative to the working directory.",
         .also = {"tokenizer", "tokenizer_path", "tokenizer_file", "tokenizer_model"}});
  s.add(
      "end_token", c.end_token,
      {.help = "Special token of the file that ends a text, as the file spells it; empty = a token "
               "of its own, which is added where the file has none.",
       .also = {"eos", "eos_token"}});
  s.add("data", c.data, {.help = "Name of the data set whose training texts it is learned from."});
  s.add("vocabulary_size", c.vocabulary_size,
        {.help = "Entries of the byte-level BPE.",
         .unit = "tokens",
         .min = 300,
         .max = 1e6,
         .also = {"vocab", "vocab_size"}});
  s.add("fields", c.fields,
        {.help = "Fields of a sample that are read as text; messages = what conversations say."});
  s.add("frequent_fields", c.frequent_fields,
        {.help = "Fields whose distinct values are asked for all the time: they get tokens."});
  s.add("phrases", c.phrases, {.help = "Sentences, such as questions, that get tokens too."});
}

void declare_episodes(SettingsScope s, EpisodesConfig& c) {
  s.add("path", c.path,
        {.help = "Folder of an episode data set, or its index.json; data/simulators/prepare makes "
                 "one."});
  s.add("tasks", c.tasks, {.help = "Tasks to learn and to be judged in; empty = all there are."});
  s.add("python", c.python,
        {.help = "Python in which the simulator is installed; empty = "
                 ".deps/simulators-SIMULATOR/bin/python."});
  s.add("script", c.script,
        {.help = "Program that lets evaluations act in the simulator; relative to the working "
                 "directory."});
  s.add("arguments", c.arguments,
        {.help = "More arguments of the script, such as --action-repeat=3."});
}

void declare_teacher(SettingsScope s, TeacherConfig& c) {
  s.add("kind", c.kind, {.help = "The network.", .choices = {c.kind}});
  s.add("weights", c.weights, {.help = "Safetensors of the frozen network."});
  s.add("cache", c.cache,
        {.help = "Folder that keeps the teacher's features; empty = inside the run directory."});
}

}  // namespace

void declare_data_settings(Settings& settings, RunConfig& config) {
  for (DataConfig& c : config.data) declare_data({settings, "data." + c.name + "."}, c);
  for (TextConfig& c : config.texts) declare_text({settings, "text." + c.name + "."}, c);
  for (EpisodesConfig& c : config.episodes) {
    declare_episodes({settings, "episodes." + c.name + "."}, c);
  }
  for (TeacherConfig& c : config.teachers) {
    declare_teacher({settings, "teacher." + c.name + "."}, c);
  }
}

}  // namespace espalier
