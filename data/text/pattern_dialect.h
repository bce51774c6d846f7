#pragma once

#include <string>

namespace espalier {

// An Oniguruma pattern as PCRE2 (with PCRE2_UTF and PCRE2_UCP) has to read it to match the same.
// DataError where that is not known to be possible.
std::string pcre2_pattern(const std::string& oniguruma);

}  // namespace espalier
