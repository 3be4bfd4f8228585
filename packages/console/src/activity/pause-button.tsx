import { Button } from '@mantine/core';
import { memo } from 'react';
import { PauseIcon, PlayIcon } from '../shell/icons.js';
import { useI18n } from '../i18n/i18n.js';

interface PauseButtonProps {
  readonly paused: boolean;
  /** Events since the pause. */
  readonly newEvents: number;
  readonly onChange: (paused: boolean) => void;
}

/** Pauses the page, and resumes it. */
export const PauseButton = memo(function PauseButton({ paused, newEvents, onChange }: PauseButtonProps) {
  const { t } = useI18n();
  return (
    <Button
      {...(paused ? { variant: 'filled', color: 'orange.9' } : { variant: 'default' })}
      leftSection={paused ? <PlayIcon size={16} /> : <PauseIcon size={16} />}
      className="fc-compact"
      data-pause
      aria-pressed={paused}
      onClick={() => onChange(!paused)}
    >
      {paused ? t.activity.resume(newEvents) : t.activity.pause}
    </Button>
  );
});
