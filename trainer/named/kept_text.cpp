#include "trainer/named/kept_text.h"

#include <filesystem>

#include "data/errors.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

bool goes_on(const RunConfig& config) {
  return !list_checkpoints(RunDirectory::checkpoints(config.directory)).empty();
}

std::string path_of(const std::string& folder, const std::string& name, const std::string& ending) {
  return folder + "/text-" + name + ending;
}

TextVocabulary parse_vocabulary(const std::string& bytes, const std::string& path,
                                const TextConfig& text) {
  try {
    return {parse_text_tokenizer(bytes, path), text};
  } catch (const DataError& error) {
    throw ConfigError("text." + text.name + ": " + error.what());
  }
}

}  // namespace

std::string kept_text_path(const std::string& folder, const std::string& name) {
  for (const char* ending : {kBytePairExtension, kSentencePieceExtension}) {
    const std::string path = path_of(folder, name, ending);
    if (fs::exists(path)) return path;
  }
  return "";
}

void refuse_other_text(const std::string& path, const TextVocabulary& vocabulary) {
  if (vocabulary.tokenizer().to_text() == read_text_file(path)) return;
  throw ConfigError(
      path + " was made from another file or other texts, or with other settings, " +
      "than now, and the run's weights go with it; set them back, or choose another " +
      "run.directory");
}

void keep_text(const RunConfig& config, const std::string& name, const TextVocabulary& vocabulary) {
  if (!fs::is_directory(config.directory)) return;
  const std::string kept = kept_text_path(config.directory, name);
  if (!kept.empty() && goes_on(config)) return refuse_other_text(kept, vocabulary);
  const TextTokenizer& tokenizer = vocabulary.tokenizer();
  const std::string path = path_of(config.directory, name, tokenizer.extension());
  if (!kept.empty() && kept != path) fs::remove(kept);
  replace_durably(path, tokenizer.to_text());
}

std::string brought_text_path(const RunConfig& config, const TextConfig& text) {
  const std::string kept = kept_text_path(config.directory, text.name);
  if (!fs::exists(text.file) && !kept.empty() && goes_on(config)) return kept;
  try {
    return text_tokenizer_file(text.file);
  } catch (const DataError& error) {
    throw ConfigError("text." + text.name + ".file = \"" + text.file + "\": " + error.what());
  }
}

TextVocabulary read_vocabulary(const std::string& path, const TextConfig& text) {
  return parse_vocabulary(read_text_file(path), path, text);
}

TextVocabulary read_vocabulary(Communicator& comm, const std::string& path,
                               const TextConfig& text) {
  return parse_vocabulary(on_rank_0(comm, [&] { return read_text_file(path); }), path, text);
}

}  // namespace espalier
