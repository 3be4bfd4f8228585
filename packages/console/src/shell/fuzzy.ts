/**
 * How well a text matches what the user types: smaller is better, null is no match. Each word must be in the text: at best
 * at the beginning of a word, then anywhere, else with other letters between its own.
 */
export function fuzzyScore(query: string, text: string): number | null {
  const lower = text.toLowerCase();
  let score = lower.length / 1_000;
  for (const word of query.toLowerCase().split(/\s+/).filter(Boolean)) {
    const wordScore = scoreOf(word, lower);
    if (wordScore === null) return null;
    score += wordScore;
  }
  return score;
}

function scoreOf(word: string, text: string): number | null {
  const at = text.indexOf(word);
  if (at === 0) return 0;
  if (at > 0) {
    const isWordStart = [' ', '-', '_', '.', '/'].some((separator) => text.includes(separator + word));
    return isWordStart ? 1 : 2;
  }
  let end = -1;
  let start = -1;
  for (const letter of word) {
    end = text.indexOf(letter, end + 1);
    if (end === -1) return null;
    if (start === -1) start = end;
  }
  // The letters between: few are a typing error, many are chance.
  return 3 + (end - start + 1 - word.length) / 10;
}
