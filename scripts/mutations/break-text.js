/**
 * The text with the replacement. Throws an Error where what is to be replaced is not there exactly once: the code
 * has changed, and the mutation with it.
 *
 * @param {string} text
 * @param {string} find
 * @param {string} replace
 * @param {string} file for the Error
 */
export function breakText(text, find, replace, file) {
  const count = text.split(find).length - 1;
  if (count !== 1) throw new Error(`${file} has ${count} of this, not 1: ${JSON.stringify(find)}`);
  return text.replace(find, () => replace);
}
