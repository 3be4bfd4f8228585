/**
 * How well a text matches what the user types: smaller is better, null is no match. Each word must be in the text: at best
 * at the beginning, then at that of a word, then anywhere. Of equal texts the shorter one is better.
 */
export function matchScore(query: string, text: string): number | null {
  const lower = text.toLowerCase();
  let score = lower.length / 1_000;
  for (const word of query.toLowerCase().split(/\s+/).filter(Boolean)) {
    const at = lower.indexOf(word);
    if (at === -1) return null;
    const isWordStart = [' ', '-', '_', '.', '/'].some((separator) => lower.includes(separator + word));
    score += at === 0 ? 0 : isWordStart ? 1 : 2;
  }
  return score;
}
