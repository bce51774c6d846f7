// encode_texts TOKENIZER: reads JSON strings from standard input, one a line, and writes what the
// tokenizer makes of each: {"ids": [..], "decoded": ".."}, and for byte-level BPE "parsed": ids
// where special tokens are parsed; "decoded" is of those. tests/data/text/tokenizers_test.py
// compares them with the public libraries.
#include <iostream>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "data/text/byte_pair_tokenizer.h"
#include "data/text/utf8.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: encode_texts TOKENIZER < TEXTS\n";
    return 64;
  }
  const auto tokenizer = espalier::open_text_tokenizer(arguments[1]);
  const auto* byte_pairs = dynamic_cast<const espalier::BytePairTokenizer*>(tokenizer.get());
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    nlohmann::json result;
    std::vector<int32_t> ids = tokenizer->encode(text);
    result["ids"] = ids;
    if (byte_pairs != nullptr) {
      ids = byte_pairs->encode(text, espalier::SpecialTokens::kParse);
      result["parsed"] = ids;
    }
    result["decoded"] = espalier::replace_invalid_utf8(tokenizer->decode(ids));
    std::cout << result.dump() << "\n";
  }
  return 0;
}
