#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// The strongest linear reading of features that has a closed form: ridge regression on one-hot
// targets, with a bias that is not penalised.
struct RidgeClassifier {
  at::Tensor mean;                    // (C) of the training features
  at::Tensor weights;                 // (C, classes), of features less their mean
  at::Tensor bias;                    // (classes)
  double lambda = 0;                  // the penalty that was chosen
  double leave_one_out_accuracy = 0;  // on the training part, at that penalty

  at::Tensor answers(const at::Tensor& queries) const;  // (M, C) to labels (M)
};

// Of `features` (N, C) with `labels` (N) int64 in [0, classes). The penalty is the one with which
// most training samples are answered rightly by the classifier fitted to all the others, of seven
// decades around the mean eigenvalue of the features' scatter; the larger one where two do as well.
// Leaving one out has a closed form, so each penalty costs one factorisation of min(N, C)³ / 3.
// After one sample the answer is always its label.
RidgeClassifier fit_ridge(const at::Tensor& features, const at::Tensor& labels, int64_t classes);

// With that penalty.
RidgeClassifier fit_ridge(const at::Tensor& features, const at::Tensor& labels, int64_t classes,
                          double lambda);

}  // namespace espalier
