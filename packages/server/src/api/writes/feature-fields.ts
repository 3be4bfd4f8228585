import { z } from 'zod';

/** A text that PostgreSQL can hold, of `least` to `most` characters as it counts them. */
export function textField(least: number, most: number): z.ZodType<string, string> {
  return z
    .string({ error: ({ input }) => (input === undefined ? 'is missing' : 'must be a text') })
    .refine((text) => !/[\0\p{Surrogate}]/u.test(text), 'holds a character that cannot be stored')
    .refine((text) => least === 0 || text.trim() !== '', 'must not be empty')
    .refine((text) => countCharacters(text) <= most, `may have at most ${most} characters`)
    .meta({ minLength: least, maxLength: most });
}

/** As PostgreSQL counts them: code points, not the halves that a JavaScript string has of some. */
function countCharacters(text: string): number {
  return text.replace(/./gsu, ' ').length;
}

const yesOrNo = z.boolean({
  error: ({ input }) => (input === undefined ? 'is missing' : 'must be true or false'),
});

/** What can be changed of a feature, as the columns hold it. */
export const featureFields = {
  name: textField(1, 50),
  description: textField(0, 300).nullable(),
  rollout_key: textField(1, 1_000).nullable(),
  enabled: yesOrNo,
  default_value: textField(0, 128),
} as const;

/** New values of some of a feature's fields. */
export type FeatureFields = {
  readonly [Field in keyof typeof featureFields]?: z.output<(typeof featureFields)[Field]> | undefined;
};

export type FeatureField = keyof typeof featureFields;

/** The fields of the feature itself: a change of one shows in every environment. */
export const sharedFields = ['name', 'description', 'rollout_key'] as const satisfies FeatureField[];

/** What each environment has of its own. */
export const environmentFields = ['enabled', 'default_value'] as const satisfies FeatureField[];

/** What is asked for, less what is so already. */
export function changedFields(
  current: Readonly<Record<FeatureField, unknown>>,
  wanted: FeatureFields,
): FeatureField[] {
  return [...sharedFields, ...environmentFields].filter(
    (field) => wanted[field] !== undefined && wanted[field] !== current[field],
  );
}

/** A reason that somebody gives for a request or a rejection. */
export const reasonField = textField(1, 500);
