import type { FeatureState } from '@flagcast/client';
import { Input, NativeSelect, SegmentedControl, TextInput } from '@mantine/core';
import type { ComponentProps } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';

interface ValueFieldProps {
  readonly feature: FeatureState;
  readonly onPick: (value: string) => void;
  /** For a text field. */
  readonly input: ComponentProps<typeof TextInput> & { readonly value: string; readonly label: string };
}

const booleans = ['true', 'false'];

/**
 * The default value, which the host stores as text: of a multivariate flag the name of a variant, of a boolean flag mostly
 * `true` or `false`. Other values, and those of flags without known variants, are texts.
 */
export function ValueField({ feature, onPick, input }: ValueFieldProps) {
  const { t } = useI18n();
  const { kind, default_value: saved, variants = [], variants_total: total = 0 } = feature;
  const { label, value, readOnly, error } = input;
  if (kind === 'simple' && booleans.includes(saved)) {
    return (
      <Input.Wrapper label={label} labelElement="div" error={error}>
        <div>
          <SegmentedControl
            data={booleans}
            value={value}
            onChange={onPick}
            readOnly={readOnly === true}
            aria-label={label}
            ff="monospace"
          />
        </div>
      </Input.Wrapper>
    );
  }
  if (kind === 'simple' || variants.length === 0 || variants.length < total) return <TextInput {...input} />;
  // The value may name a variant that is gone.
  const names = new Set([...variants.map(({ name }) => name), saved, value]);
  return (
    <NativeSelect
      label={label}
      error={error}
      value={value}
      disabled={readOnly === true}
      onChange={(event) => onPick(event.currentTarget.value)}
      data={Array.from(names, (name) => ({
        value: name,
        label: name === '' ? t.feature.empty : visible(name),
      }))}
    />
  );
}
