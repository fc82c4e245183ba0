/* What kinds of pattern and sites are, in words. */

const KINDS = {
  probability: "probability: each row sums to 1, or to 0 where the query may attend to nothing",
  signed: "signed: weights may be negative",
  unnormalised: "unnormalised: weights are not negative, and each row has a mass of its own",
  implicit: "implicit: the module never forms such weights; these reproduce its output",
};

/** By site: what rows mean, and what the two columns of tokens are called. */
const SITES = {
  encoder_self: ["Each row is a source word; columns are the source words it looks at.", "source word", "looks at"],
  decoder_self: ["Each row is the word just read; columns are the words read so far.", "word read", "looks back at"],
  cross: ["Each row says its word; columns are the source words it looks at.", "says", "looks at"],
};

function siteWords(site) {
  return SITES[site] ?? ["Rows attend to columns.", "query", "key"];
}
