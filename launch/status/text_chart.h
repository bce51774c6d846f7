#pragma once

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// A curve as `rows` lines of `columns` characters each, made of braille dots (2 x 4 in a character,
// so UTF-8 only); the points are joined. x from the first point to the last, y from the least value
// to the greatest. Points: (x, y), finite, by rising x. Without points: blank lines.
std::vector<std::string> text_chart(const std::vector<std::pair<double, double>>& points,
                                    int columns, int rows);

// Cut to so many characters (not bytes) of UTF-8.
std::string cut_to_columns(const std::string& text, int columns);
// Cut, or filled with blanks.
std::string fit_to_columns(const std::string& text, int columns);

}  // namespace espalier
