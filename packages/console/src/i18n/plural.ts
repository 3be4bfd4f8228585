/** Forms of a noun by the categories of Intl.PluralRules. `other` replaces missing ones. */
type PluralForms = Readonly<Partial<Record<Intl.LDMLPluralRule, string>>> & { readonly other: string };

export interface Plural {
  /** The number with the noun in its form, e.g. `3 flags`. */
  (count: number, forms: PluralForms): string;
  readonly number: (count: number) => string;
}

/** Formats counts in a language. */
export function createPlural(language: string): Plural {
  const rules = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  const number = (count: number): string => numbers.format(count);
  const plural = (count: number, forms: PluralForms): string =>
    `${number(count)} ${forms[rules.select(count)] ?? forms.other}`;
  return Object.assign(plural, { number });
}
