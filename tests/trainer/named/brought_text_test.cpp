// Text tokenizers that [text.NAME] brings instead of learning one.
#include <filesystem>

#include <gtest/gtest.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "real_things.h"
#include "refusal.h"
#include "toy_room.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/export/run_export.h"
#include "trainer/named/kept_text.h"
#include "trainer/named/named_things.h"
#include "trainer/run.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

std::string brought(const std::string& name) {
  return std::string(ESPALIER_SOURCE_DIR) + "/tests/parity/golden/tokenizers/" + name;
}

class BroughtText : public testing::Test {
 protected:
  // The small config with other settings of its tokenizer.
  std::string toml(const std::string& settings) const {
    std::string text = small_toml(directory_);
    const std::string learned = "data = \"emoji\"\nvocabulary_size = 320\n";
    return text.replace(text.find(learned), learned.size(), settings);
  }
  RunConfig config(const std::string& settings) const {
    return load_run_config(write_config(toml(settings)));
  }
  RunConfig with_file(const std::string& file, const std::string& more = "") const {
    return config("file = \"" + file + "\"\n" + more);
  }
  std::string refusal_of(const std::string& settings) const {
    return refusal([&] {
      const RunConfig made = config(settings);
      NamedThings(made, *comm_, at::kCPU).text("names");
    });
  }
  // As a run of one rank comes to have it; it is kept in the run directory.
  TextVocabulary made_of(const RunConfig& config) const {
    fs::create_directories(config.directory);
    return NamedThings(config, *comm_, at::kCPU).text("names");
  }

  std::string directory_ = fresh_directory("brought");
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

TEST_F(BroughtText, HasTheTokensThatStructureSequencesAfterItsLastId) {
  for (const std::string name : {"gpt2.json", "llama.model"}) {
    const int64_t own = open_text_tokenizer(brought(name))->vocabulary_size();
    const TextVocabulary made = made_of(with_file(brought(name)));
    EXPECT_EQ(made.size(), own + 6) << name;
    EXPECT_EQ(made.tokens().end, own);
    EXPECT_EQ(made.tokens().null, own + 5);
    EXPECT_EQ(made.decode({static_cast<int32_t>(own), static_cast<int32_t>(own + 5)}), "");
  }
}

TEST_F(BroughtText, EndsWithATokenOfItsOwnWhereItIsNamed) {
  const auto tokenizer = open_text_tokenizer(brought("qwen2.json"));
  const TextVocabulary made =
      made_of(with_file(brought("qwen2.json"), "end_token = \"<|im_end|>\"\n"));
  EXPECT_EQ(made.tokens().end, tokenizer->find_special("<|im_end|>"));
  EXPECT_EQ(made.tokens().caption, tokenizer->vocabulary_size());
  EXPECT_EQ(made.size(), tokenizer->vocabulary_size() + 5);
  expect_parts(refusal_of("file = \"" + brought("qwen2.json") + "\"\nend_token = \"<|eot|>\"\n"),
               {"text.names.end_token = \"<|eot|>\"", "qwen2.json", "<|im_end|>"});
}

// A model's embedding may have more rows than there are tokens.
TEST_F(BroughtText, ReadsIdsBeyondItsTokensAsNothing) {
  const TextVocabulary made = made_of(with_file(brought("gpt2.json"), ""));
  EXPECT_EQ(made.decode({1535, 64}), made.decode({64}));
}

TEST_F(BroughtText, IsNotLearnedToo) {
  const std::string file = "file = \"" + brought("gpt2.json") + "\"\n";
  for (const std::string setting : {"data = \"emoji\"", "vocabulary_size = 320", "fields = [\"x\"]",
                                    "frequent_fields = [\"x\"]", "phrases = [\"x\"]"})
    expect_parts(refusal_of(file + setting + "\n"),
                 {"text.names.file", "text.names." + setting.substr(0, setting.find(' ')),
                  "remove one of the two"});
  expect_parts(refusal_of("data = \"emoji\"\nend_token = \"<end>\"\n"),
               {"text.names.end_token", "set text.names.file"});
  expect_parts(refusal_of(""), {"text.names has neither data", "nor file"});
}

TEST_F(BroughtText, ThatIsMissingOrOfAnotherKindIsRefused) {
  expect_parts(refusal_of("file = \"/nonexistent/tokenizer.json\"\n"),
               {"text.names.file = \"/nonexistent/tokenizer.json\"", "no such file"});
  expect_parts(refusal_of("file = \"" + fs::path(brought("")).parent_path().string() + "\"\n"),
               {"text.names.file", "no tokenizer.json"});
  const std::string folder = fresh_directory("other");
  fs::create_directories(folder);
  const std::string other = folder + "/other.json";
  replace_durably(other, R"({"model": {"type": "Unigram", "vocab": []}})");
  expect_parts(refusal_of("file = \"" + other + "\"\n"),
               {"text.names", "other.json", "model.type is Unigram", "expected BPE"});
}

TEST_F(BroughtText, IsTheSameOnRanksThatCannotSeeTheFile) {
  const RunConfig made = with_file(brought("t5.model"));
  std::vector<std::string> files(2);
  run_ranks(2, [&](Communicator& comm) {
    NamedThings things(made, comm, at::kCPU);
    files[static_cast<size_t>(comm.rank())] = things.text("names").tokenizer().to_text();
  });
  EXPECT_EQ(files[0], files[1]);
  EXPECT_FALSE(files[0].empty());
}

TEST_F(BroughtText, OfARunThatGoesOnIsTheRunsOwnCopy) {
  for (const std::string name : {"gpt2.json", "llama.model"}) {
    const std::string copy = fresh_directory("copies") + "/" + name;
    fs::create_directories(fs::path(copy).parent_path());
    fs::copy_file(brought(name), copy);
    const RunConfig made = load_run_config(write_config(toml("file = \"" + copy + "\"\n")),
                                           {"stage.codes.steps=2", "stage.both.steps=2"});
    fs::remove_all(made.directory);
    train_toy(made, 1, 3);  // into the second stage
    const std::string kept = kept_text_path(made.directory, "names");
    EXPECT_EQ(fs::path(kept).extension(), fs::path(name).extension());
    const std::string bytes = read_text_file(kept);

    fs::copy_file(brought(name == "gpt2.json" ? "prefix_space.json" : "t5.model"), copy,
                  fs::copy_options::overwrite_existing);
    expect_parts(refusal([&] { train_toy(made, 1); }), {kept, "another file"});
    fs::remove(copy);
    train_toy(made, 1);
    EXPECT_EQ(read_text_file(kept), bytes) << name;

    const std::string to = fresh_directory("exported");
    export_run({.run = made.directory, .to = to, .commit = "abc"});
    const auto texts = nlohmann::json::parse(read_text_file(to + "/config.json")).at("texts");
    if (name == "gpt2.json") {
      EXPECT_EQ(texts.at("names"), nlohmann::json::parse(bytes));
    } else {
      EXPECT_EQ(texts.at("names").at("file"), "text-names.model");
      EXPECT_EQ(read_text_file(to + "/text-names.model"), bytes);
    }
  }
}

TEST_F(BroughtText, GoesWithTheWeightsIntoAFork) {
  const RunConfig parent =
      load_run_config(write_config(toml("file = \"" + brought("llama.model") + "\"\n")),
                      {"stage.codes.steps=1", "stage.both.steps=1"});
  train_toy(parent, 1);
  RunConfig fork = parent;
  fork.directory = fresh_directory("fork");
  fork.texts[0].file = "/nonexistent/llama.model";
  train_toy(fork, 1, -1, {.fork_from = parent.directory});
  EXPECT_EQ(read_text_file(kept_text_path(fork.directory, "names")),
            read_text_file(kept_text_path(parent.directory, "names")));
}

}  // namespace
}  // namespace espalier
