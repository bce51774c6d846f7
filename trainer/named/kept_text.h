#pragma once

#include <string>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/named/text_vocabulary.h"

namespace espalier {

// A run keeps each of its text tokenizers as text-NAME, with the ending of the tokenizer's kind:
// with the tokens that structure sequences, so that nothing else is needed to read its ids.

// The file of a tokenizer in `folder`; "" when there is none.
std::string kept_text_path(const std::string& folder, const std::string& name);

// On one rank. A run that goes on must not give its token ids another meaning: ConfigError when it
// has checkpoints and kept another tokenizer. Does nothing where there is no run directory.
void keep_text(const RunConfig& config, const std::string& name, const TextVocabulary& vocabulary);
void refuse_other_text(const std::string& path, const TextVocabulary& vocabulary);

// The file that [text.NAME] names; where a run that goes on has lost it, what the run kept of it.
// ConfigError when there is neither.
std::string brought_text_path(const RunConfig& config, const TextConfig& text);

// The tokenizer in a file; ConfigError that names text.NAME.file when it cannot be used.
TextVocabulary read_vocabulary(const std::string& path, const TextConfig& text);
// Collective. The same of a file that only rank 0 may see.
TextVocabulary read_vocabulary(Communicator& comm, const std::string& path, const TextConfig& text);

}  // namespace espalier
