#include "data/text/text_tokenizer.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/errors.h"
#include "data/text/byte_pair_tokenizer.h"
#include "data/text/sentencepiece_tokenizer.h"

namespace espalier {
namespace fs = std::filesystem;

std::string text_tokenizer_file(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (fs::exists(path, error)) return path;
    throw DataError(path +
                    ": there is no such file or folder; a tokenizer.json, a SentencePiece "
                    "*.model, or a folder that holds one of them is read");
  }
  // As Hugging Face folders call them; the last two are Llama's and T5's SentencePiece models.
  for (const char* name : {"tokenizer.json", "tokenizer.model", "spiece.model"}) {
    const fs::path file = fs::path(path) / name;
    if (fs::exists(file, error)) return file.string();
  }
  throw DataError(path + ": this folder has no tokenizer.json, tokenizer.model or spiece.model" +
                  (fs::exists(fs::path(path) / "vocab.json", error)
                       ? "; it has a vocab.json, from which the Python package makes the file: "
                         "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                       : ""));
}

std::shared_ptr<const TextTokenizer> parse_text_tokenizer(const std::string& bytes,
                                                          const std::string& path) {
  const std::string ending = fs::path(path).extension().string();
  if (ending == kSentencePieceExtension)
    return std::make_shared<SentencePieceTokenizer>(SentencePieceTokenizer::parse(bytes, path));
  if (ending == kBytePairExtension)
    return std::make_shared<BytePairTokenizer>(BytePairTokenizer::parse(bytes, path));
  throw DataError(path +
                  ": a text tokenizer is a .json (Hugging Face's tokenizer.json) or a "
                  ".model (SentencePiece), but this ends in \"" +
                  ending + "\"");
}

std::shared_ptr<const TextTokenizer> open_text_tokenizer(const std::string& path) {
  const std::string file = text_tokenizer_file(path);
  std::ifstream in(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  if (!in) throw DataError("cannot read " + file + ": " + std::strerror(errno));
  return parse_text_tokenizer(bytes.str(), file);
}

}  // namespace espalier
