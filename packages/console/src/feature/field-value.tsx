import { Code, Text } from '@mantine/core';
import { useTexts } from '../texts/texts.js';

/** A value of a field, as people read it. */
export function FieldValue({ value }: { readonly value: unknown }) {
  const { t } = useTexts();
  if (value === null || value === undefined || value === '') {
    return (
      <Text size="sm" c="dimmed" fs="italic" component="span">
        {t.feature.empty}
      </Text>
    );
  }
  if (typeof value === 'boolean') return <span>{value ? t.features.on : t.features.off}</span>;
  if (typeof value === 'string') return <span className="fc-wrap">{value}</span>;
  return <Code className="fc-wrap">{JSON.stringify(value)}</Code>;
}
